"""What Ray assigned to an actor or replica.

Ray does not hold a process to it, so whoever took all cores would take those of its neighbours.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from crossrank.engine.runtime.cores import available_cores
from crossrank.errors import ProviderError


class Share(NamedTuple):
    """What a process may use.

    Attributes:
        threads: for scoring.
        gpus: how many; CUDA numbers them from 0, as Ray hides the others.
    """

    threads: int
    gpus: int

    def provider(self, wanted: str = "auto") -> Literal["cpu", "cuda"]:
        """Where to run.

        Raises:
            ProviderError: CUDA is wanted, and Ray assigned no GPU.
        """
        if wanted == "cuda" and not self.gpus:
            raise ProviderError(
                "provider='cuda' in an actor to which Ray assigned no GPU: ask for one with num_gpus=1, in Serve "
                "with ray_actor_options={'num_gpus': 1}"
            )
        return "cpu" if wanted == "cpu" or not self.gpus else "cuda"


def assigned() -> Share:
    """What Ray assigned to this actor: at least one thread, also of a part of a CPU or of none.

    Outside of an actor it is every core and no GPU, so that classes can be tried without a cluster.
    """
    import ray

    context = ray.get_runtime_context() if ray.is_initialized() else None
    if context is None or context.get_actor_id() is None:
        return Share(available_cores(), 0)
    cpus = int(context.get_assigned_resources().get("CPU", 0))
    return Share(max(1, min(cpus, available_cores())), len(context.get_accelerator_ids().get("GPU", ())))
