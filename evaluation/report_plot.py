"""Plots of figures as every report draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.evaluation.dependencies import require_matplotlib

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PRECISION_COLOURS = {"fp32": "#1b4f9c", "int8": "#c0392b", "fp16": "#2e8b57"}
COLOURS = ("#e08e0b", "#7d5ba6", "#8c6d46", "#d16ba5", "#5f6a72", "#3aa6a6", "#b0a030", "#7fb0e6", "#111111")
"""One for each line beside those of our precisions."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "d", "p")
_HATCHES = ("", "//", "..", "xx")
_LEGEND = {"fontsize": 8, "framealpha": 1.0, "edgecolor": "none"}


def new_figure(panels: int = 1, *, size: tuple[float, float] = (7.5, 4.8)) -> tuple[Any, list[Any]]:
    """A figure with panels side by side; its axes are set up by `label_axes`.

    Args:
        panels: how many.
        size: width and height in inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def label_axes(axes: Any, title: str, x: str, y: str, *, log_x: bool = False, log_y: bool = False) -> None:
    """Title, labels, scales and a grid.

    Args:
        axes: of a panel.
        title: of the panel.
        x: what the horizontal axis shows.
        y: what the vertical axis shows.
        log_x: whether the horizontal axis is logarithmic.
        log_y: likewise the vertical one.
    """
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, which="both", color="0.9", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def set_ticks(axes: Any, values: Iterable[float]) -> None:
    """Ticks of the horizontal axis at these values and nowhere else."""
    ticks = sorted(set(values))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def tell_apart(figure: Any) -> None:
    """Give each colour a marker of its own, and each group of bars a hatch, for those who do not see or print colours.

    Args:
        figure: with everything drawn; the same colour has the same marker in all its panels.
    """
    from matplotlib.colors import to_hex

    markers: dict[str, str] = {}
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_marker() == "o":
                colour = to_hex(line.get_color())
                line.set_marker(markers.setdefault(colour, _MARKERS[len(markers) % len(_MARKERS)]))
        for number, bars in enumerate(axes.containers):
            for bar in bars:
                bar.set_hatch(_HATCHES[number % len(_HATCHES)])
                bar.set_edgecolor("white")


def save_figure(figure: Any, path: Path, *, below: bool = False) -> Path:
    """Tell lines and bars apart without colour, add legends, and write a PNG.

    Args:
        figure: with everything drawn.
        path: of the file; its folder is made if it does not exist.
        below: one legend under the panels instead of one in each.

    Returns:
        The path.
    """
    tell_apart(figure)
    if below:
        figure.legend(**_LEGEND, loc="outside lower center")
    else:
        for axes in figure.axes:
            if axes.get_legend_handles_labels()[1]:
                axes.legend(**_LEGEND, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, format="png")
    return path
