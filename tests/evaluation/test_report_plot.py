"""Plots can be read without colours."""

from crossrank.evaluation.report_plot import COLOURS, new_figure, save_figure


def test_every_colour_has_a_marker_of_its_own_in_all_panels(tmp_path):
    figure, panels = new_figure(2)
    for axes in panels:
        for colour in COLOURS:
            axes.plot([1, 2], [1, 2], color=colour, marker="o", label=colour)
            axes.plot([1, 2], [2, 3], "--", color=colour, marker="o")
    save_figure(figure, tmp_path / "plot.png")
    marker_of = {}
    for axes in panels:
        for line in axes.get_lines():
            assert marker_of.setdefault(line.get_color(), line.get_marker()) == line.get_marker()
    assert len(set(marker_of.values())) == len(COLOURS)
    assert (tmp_path / "plot.png").stat().st_size


def test_groups_of_bars_differ_in_their_hatch(tmp_path):
    figure, (axes,) = new_figure()
    groups = [axes.bar([0, 1], [1, 2], label=name) for name in ("fp32", "int8", "fp16")]
    save_figure(figure, tmp_path / "plot.png")
    assert len({bars[0].get_hatch() for bars in groups}) == len(groups)


def test_a_marker_that_means_something_stays(tmp_path):
    figure, (axes,) = new_figure()
    axes.plot([1], [1], "k*", label="chosen")
    save_figure(figure, tmp_path / "plot.png")
    assert axes.get_lines()[0].get_marker() == "*"
