"""The charts of a report: axes, curves, words."""

import itertools
import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr.training.reporting.charts import Line, Mark, fan, histogram, lines, percents, stack
from macurr.training.reporting.maps import Band, play_map
from macurr.training.reporting.marks import Point, matrix, means, ratings, scores
from macurr.training.reporting.series import bounds, ends, smooth, thin
from macurr.training.reporting.sparks import spark
from macurr.training.reporting.svg import Canvas, axis, element, ticks_of
from macurr.training.reporting.words import listed, number, percent, plural, short_name, short_steps, span


@pytest.mark.parametrize(
    ("low", "high", "most", "wanted"),
    [
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1_007_616, 6, [0, 500_000, 1_000_000]),
        (-0.3, 0.4, 5, [-0.2, 0, 0.2, 0.4]),
        (5, 5, 6, [5]),
    ],
)
def test_ticks_are_round_numbers(low, high, most, wanted):
    assert ticks_of(low, high, most) == pytest.approx(wanted)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_lie_in_their_range_and_are_few(low, extent, most):
    ticks = ticks_of(low, low + extent, most)
    slack = 1e-6 * (abs(low) + extent)
    assert len(ticks) <= most
    assert all(low - slack <= tick <= low + extent + slack for tick in ticks)
    assert np.diff(ticks) == pytest.approx(
        np.full(max(len(ticks) - 1, 0), ticks[1] - ticks[0] if len(ticks) > 1 else 0)
    )


def test_labels_that_would_be_equal_get_more_digits():
    assert axis(1.6080, 1.6099, number, most=5).labels == ("1.6080", "1.6085", "1.6090", "1.6095")


def test_places_follow_the_axes():
    canvas = Canvas(
        axis(0, 10, number), axis(0, 1, number), width=100, height=50, left=10, right=10, top=5, bottom=5
    )
    assert canvas.at_x([0, 5, 10]).tolist() == [10, 50, 90]
    assert canvas.at_y([0, 1]).tolist() == [45, 5]


def test_a_line_is_broken_where_a_number_is_missing():
    canvas = Canvas(axis(0, 4, number), axis(0, 1, number))
    canvas.path(np.arange(5.0), np.array([0, 1, np.nan, 1, 0]), stroke="red")
    assert len(canvas.parts) == 2
    canvas.parts.clear()
    canvas.band(np.arange(3.0), np.zeros(3), np.array([1.0, np.nan, 1.0]))
    assert len(canvas.parts) == 2


def test_what_is_said_cannot_be_markup():
    assert (
        element("text", class_="a", x=1.50, label='<"&>')
        == '<text class="a" x="1.5" label="&lt;&quot;&amp;&gt;"/>'
    )
    canvas = Canvas(axis(0, 1, number), axis(0, 1, number))
    canvas.text(1, 2, "<script>")
    assert "<script>" not in canvas.svg("</svg>")


# Numbers over the run


def test_smoothing_closes_small_gaps_and_keeps_a_constant():
    values = np.full(100, 3.0)
    values[[0, 50, 99]] = np.nan
    assert smooth(values) == pytest.approx(np.full(100, 3.0))
    assert smooth(np.array([1.0, 5.0])).tolist() == [1.0, 5.0], "a short run is shown as it is"
    assert smooth(np.arange(60.0))[30] == pytest.approx(np.mean([29, 30, 31]))


def test_thinning_averages_neighbours():
    thinned = thin({"x": np.arange(8.0), "y": np.array([1, 1, 3, 5, np.nan, 4, np.nan, np.nan])}, most=4)
    assert thinned["x"].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert thinned["y"][:3].tolist() == [1, 4, 4]
    assert np.isnan(thinned["y"][3])
    assert thin({"x": np.arange(4.0)}, most=4)["x"].tolist() == [0, 1, 2, 3]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50), st.integers(1, 20))
def test_thinning_stays_within_the_numbers(values, most):
    thinned = thin({"x": np.array(values)}, most)["x"]
    assert len(thinned) == min(len(values), most)
    assert min(values) - 1e-9 <= thinned.min()
    assert thinned.max() <= max(values) + 1e-9


def test_bounds_hold_everything_and_the_floor():
    assert bounds([2.0, 4.0], [np.nan, 3.0], room=0.5) == (1.0, 5.0)
    assert bounds([2.0, 4.0], floor=0.0, room=0.5) == (0.0, 6.0)
    assert bounds([-2.0, -1.0], floor=0.0, room=0.5) == (-3.0, 0.0)
    assert bounds([np.nan]) == (0.0, 1.0)
    # What never changes is drawn on an axis of its own size, not of its last digits.
    assert bounds([8.0]) == (4.0, 12.0)
    assert bounds([-0.2, -0.2]) == pytest.approx((-0.3, -0.1))
    assert bounds([0.0]) == (-0.5, 0.5)
    low, high = bounds([7.0], floor=7.0)
    assert low <= 7.0 < high


def test_ends_are_numbers():
    assert ends(np.array([np.nan, 1.0, 2.0, np.nan])) == (1.0, 2.0)
    assert np.isnan(ends(np.array([np.nan]))).all()


# Charts

STEPS = np.array([100.0, 200.0, 300.0])
QUANTILES = ("5 %", "25 %", "median", "75 %", "95 %", "99 %")


def every_chart():
    return [
        lines("A", "b", STEPS, [Line("one", np.array([1.0, np.nan, 3.0]), "blue")]),
        lines("A", "b", STEPS[:1], [Line("one", np.array([1.0]), "blue")], narrow=True),
        stack("A", "b", STEPS, [Line("x", np.full(3, 0.3), "win"), Line("y", np.full(3, 0.7), "loss")]),
        fan("A", "b", STEPS, {q: np.full(3, i) for i, q in enumerate(QUANTILES)}),
        histogram("A", "b", [Line("x", np.zeros(4), "win")], "score"),
        scores("A", "b", [Point("x", 0.7, 0.6, 0.8), Point("y", 0.2, 0.1, 0.3)], "opponent"),
        means("A", "b", [Point("x", -7, -9, -6)], "policy"),
        ratings("A", "b", [Point("x", 1400, 1300, 1500, 0), Point("y", 1600, 1500, 1700, 300)], 300),
        matrix("A", "b", ["x", "y"], np.array([[np.nan, 0.25], [0.75, np.nan]])),
        play_map("A", "b", [Band("levels", ("5", "3"), np.array([[1, 0, 4], [0, 0, 0]]), str)], STEPS),
    ]


@pytest.mark.parametrize("number", range(10))
def test_every_chart_is_well_formed_and_says_what_it_shows(number):
    chart = every_chart()[number]
    root = ElementTree.fromstring(chart.svg)
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"].startswith("A.")
    box = [float(x) for x in root.attrib["viewBox"].split()]
    assert box[2] > 0
    assert box[3] > 0
    assert "nan" not in chart.svg


@pytest.mark.parametrize("number", range(10))
def test_a_phone_needs_no_scrolling(number):
    chart = every_chart()[number]
    if chart.reading:  # curves are drawn once, and their labels grow
        assert chart.small == ""
        return
    root = ElementTree.fromstring(chart.small)
    assert float(root.attrib["viewBox"].split()[2]) <= 340
    assert root.attrib["aria-label"] == ElementTree.fromstring(chart.svg).attrib["aria-label"]


def labels(svg, kind):
    return [
        text.text for text in ElementTree.fromstring(svg).iter("text") if kind in text.get("class").split()
    ]


def test_names_that_would_touch_are_left_out_where_there_is_no_room():
    points = [Point(f"{i}00k", 0.6, 0.5, 0.7) for i in range(12)]
    chart = scores("A", "", points, "opponent")
    wide, slim = (
        [said for said in labels(svg, "middle") if said.endswith("k")] for svg in (chart.svg, chart.small)
    )
    assert wide == [point.name for point in points]
    assert slim == [point.name for point in points[::2]]
    assert len(labels(chart.svg, "mark")) == 12
    assert labels(chart.small, "mark") == []  # the axis tells


@pytest.mark.parametrize(
    ("players", "shown", "numbers"), [(3, 3, 6), (13, 13, 156), (30, 15, 0), (60, 15, 0)]
)
def test_a_large_matrix_drops_what_does_not_fit(players, shown, numbers):
    names = [f"{i}0k" for i in range(10, 10 + players)]
    values = np.full((players, players), 0.5)
    np.fill_diagonal(values, np.nan)
    svg = matrix("A", "", names, values).svg
    above = [said for said in labels(svg, "tick") if said in names]
    beside = players if players < 40 else players // 2
    assert len(above) == beside + shown
    assert len(labels(svg, "mark")) == numbers


def test_one_update_is_seen():
    step = np.array([8192.0])
    curve = lines("Return", "", step, [Line("return", np.array([2.0]), "blue")])
    [*dots] = ElementTree.fromstring(curve.svg).iter("circle")
    assert dots
    assert labels(curve.svg, "middle")[0] == "0"  # from the beginning of the run
    parts = stack(
        "Outcomes", "", step, [Line("won", np.array([0.25]), "win"), Line("lost", np.array([0.75]), "loss")]
    )
    areas = [
        [float(point.split(",")[0]) for point in area.get("points").split()]
        for area in ElementTree.fromstring(parts.svg).iter("polygon")
    ]
    assert len(areas) == 2
    assert all(max(xs) - min(xs) > 400 for xs in areas)


def test_a_number_between_two_gaps_is_a_dot():
    chart = lines("A", "", STEPS, [Line("a", np.array([np.nan, 2.0, np.nan]), "blue")], averaged=False)
    [dot] = ElementTree.fromstring(chart.svg).iter("circle")
    assert dot.get("fill") == "var(--blue)"


def test_a_map_tells_who_was_played_when():
    opponents = Band(
        "opponents",
        ("0", "10k"),
        np.array([[4, 1, 0], [0, 3, 2]]),
        lambda name: f"the snapshot of {name} steps",
        np.array([4, 4, 8]),
    )
    levels = Band("levels", ("7",), np.array([[0, 2, 1]]), lambda name: f"level {name}")
    root = ElementTree.fromstring(play_map("When", "", [opponents, levels], STEPS).svg)
    cells = {
        cell.find("title").text: float(cell.get("fill-opacity")) for cell in root.iter("rect") if len(cell)
    }
    assert list(cells) == [
        "the snapshot of 0 steps: 4 episodes, 0 to 100 steps",
        "the snapshot of 0 steps: 1 episodes, 100 to 200 steps",
        "the snapshot of 10k steps: 3 episodes, 100 to 200 steps",
        "the snapshot of 10k steps: 2 episodes, 200 to 300 steps",
        "level 7: 2 episodes, 100 to 200 steps",
        "level 7: 1 episodes, 200 to 300 steps",
    ]
    # Shares of all episodes: 1, 1/4, 3/4 and 1/4; and episodes of the most.
    assert list(cells.values()) == pytest.approx(
        [1.0, 0.25**0.6, 0.75**0.6, 0.25**0.6, 1.0, 0.5**0.6], abs=0.006
    )


def test_a_phone_gets_the_most_played_rows_in_fewer_columns():
    plays = np.arange(1, 21)[:, None] * np.ones((1, 60), np.int64)
    band = Band("levels", tuple(f"l{i}" for i in range(20)), plays, str, np.full(60, 210))
    chart = play_map("When", "", [band], np.arange(1.0, 61.0) * 100)
    root = ElementTree.fromstring(chart.small)
    cells = [cell.find("title").text for cell in root.iter("rect") if len(cell)]
    assert len(cells) == 16 * 24
    assert sum(int(said.split()[1]) for said in cells) == 60 * sum(range(5, 21))
    assert [said for said in labels(chart.small, "end") if said.startswith("l")] == [
        f"l{i}" for i in range(4, 20)
    ]


@pytest.mark.parametrize(
    ("share", "said"), [(0.05, "5"), (0.025, "2.5"), (0.07, "7"), (0.5, "50"), (0.0, "0")]
)
def test_percentages_have_no_digits_that_say_nothing(share, said):
    assert percents(share) == f"{said}\N{NO-BREAK SPACE}%"


def test_a_curve_can_be_read_off():
    chart = lines("Return", "", STEPS, [Line("return", np.array([1.0, np.nan, 3.25]), "blue")])
    reading = json.loads(chart.reading)
    assert reading["head"] == ["100 steps", "200 steps", "300 steps"]
    assert reading["rows"][0]["said"] == ["1", "\N{EN DASH}", "3.25"]
    assert reading["at"] == sorted(reading["at"])
    assert "from 1 to 3.25" in chart.svg


def test_a_matrix_tells_who_beats_whom():
    root = ElementTree.fromstring(every_chart()[8].svg)
    said = [title.text for title in root.iter("title")]
    assert said == [
        "x scores 25.0\N{NO-BREAK SPACE}% against y",
        "y scores 75.0\N{NO-BREAK SPACE}% against x",
    ]


def test_a_spark_has_a_bar_for_each_interval_that_was_played():
    root = ElementTree.fromstring(spark(STEPS, np.array([np.nan, 1.0, 2.0]), np.array([0.0, 4.0, 2.0]), "L"))
    heights = [float(bar.attrib["height"]) for bar in root.iter("rect")]
    assert heights == [14.0, 7.0]


# Words


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (percent(0.9285, 1), "92.8\N{NO-BREAK SPACE}%"),
        (percent(math.nan), "\N{EN DASH}"),
        (number(0.00012345), "0.000123"),
        (number(0.000012345), "1.23e-05"),
        (number(12345.6), "12,346"),
        (number(0.5), "0.5"),
        (number(math.inf), "\N{EN DASH}"),
        (short_steps(999), "999"),
        (short_steps(1540), "1.54k"),
        (short_steps(163_840), "164k"),
        (short_steps(1_007_616), "1.01M"),
        (plural(1, "level"), "1 level"),
        (plural(2000, "level"), "2,000 levels"),
        (span(3.04), "3.0 s"),
        (span(59.6), "1 min"),
        (span(185), "3 min 5 s"),
        (span(7800), "2 h 10 min"),
        (span(90_000), "1 d 1 h"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (short_name("macurr.envs.apple_race_v0"), "apple_race_v0"),
        (short_name("package.module:Race"), "Race"),
    ],
)
def test_numbers_are_written_as_people_read_them(said, wanted):
    assert said == wanted


def polylines(chart):
    found = ElementTree.fromstring(chart.svg).iter("polyline")
    return [[tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in found]


def test_what_is_held_is_drawn_as_stairs_and_not_averaged():
    steps, values = np.arange(1.0, 41.0), np.tile([1.0, 3.0], 20)
    smoothed = lines("Rate", "", steps, [Line("a", values, "blue")])
    assert len(polylines(smoothed)) == 2  # the numbers faint, and their average
    [stairs] = polylines(lines("Rate", "", steps, [Line("a", values, "blue")], held=True))
    assert len(stairs) == 2 * 40 - 1
    assert all(here[0] == there[0] or here[1] == there[1] for here, there in itertools.pairwise(stairs))
    assert len({y for _, y in stairs}) == 2
    [plain] = polylines(lines("Rate", "", steps, [Line("a", values, "blue")], averaged=False))
    assert len({y for _, y in plain}) == 2


def test_rings_stand_where_something_happened_and_say_what():
    steps, values = np.array([0.0, 10.0, 20.0]), np.array([1.0, 2.0, 3.0])
    mark = Mark(10.0, 2.0, "gold", "b < a")
    chart = lines("Objective", "", steps, [Line("a", values, "blue")], marks=[mark], averaged=False)
    [ring] = ElementTree.fromstring(chart.svg).iter("circle")
    [line] = polylines(chart)
    assert (float(ring.get("cx")), float(ring.get("cy"))) == pytest.approx(line[1], abs=0.06)
    assert (ring.find("title").text, ring.get("stroke")) == ("b < a", "var(--gold)")
