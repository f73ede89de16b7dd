"""Making the graphs of an artifact, one precision after the other, each placed and verified before the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.export.graph.files import weight_bytes
from crossrank.export.pass_lists import PASS_LISTS, PassFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from crossrank.export.assembly import Assembly
    from crossrank.export.pass_lists import PassList, PassRunner
    from crossrank.models.manifest import Precision, Verification


def make_graphs(
    assembly: Assembly,
    runner: PassRunner,
    wanted: Sequence[Precision],
    reference: list[NDArray[np.float32]] | None,
    *,
    name: str,
    pass_lists: Mapping[Precision, PassList] = PASS_LISTS,
    probe: Callable[[], Verification] | None = None,
) -> None:
    """Make, place and verify the float32 graph and those wanted besides.

    The float32 graph is made whether it is wanted or not, because the others are measured against it; it is taken
    out again in the end.

    Args:
        assembly: where they go.
        runner: makes them.
        wanted: precisions the artifact is to have.
        reference: logits the float32 graph is measured against, one array a query; None for itself.
        name: what that reference is.
        pass_lists: how each precision is made.
        probe: compares the float32 graph with its reference on probe pairs, once it is verified.

    Raises:
        FidelityError: a graph fails on the verification pairs, or on the probes.
        PassFailedError: none of the precisions wanted can be made; where others can, a note says which could not.
    """
    order = [pass_lists["fp32"], *(pass_lists[precision] for precision in wanted if precision != "fp32")]
    for index, pass_list in enumerate(order):
        with assembly.recorder.step(f"make {pass_list.precision}") as step:
            try:
                model, records = runner.run(pass_list, keep_for=order[index + 1 :])
            except PassFailedError as error:
                left = [precision for precision in wanted if precision != pass_list.precision]
                if not left or len(assembly.not_made) + 1 == len(wanted):
                    raise
                assembly.not_made[pass_list.precision] = str(error)
                continue
            step.size = weight_bytes(model)
        assembly.place_graph(model, pass_list, records)
        del model
        runs = assembly.verify(pass_list.precision, reference, name=name)
        if pass_list.precision == "fp32":
            reference, name = runs.single, "fp32"
            if probe is not None:
                assembly.verification = probe()
