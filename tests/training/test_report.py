"""The report of a run: real tiny runs, and pages that say what their files say."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from macurr.errors import ConfigError
from macurr.opponents import AgentPool
from macurr.training import Listener, TrainConfig, train, write_report
from macurr.training.evaluation import Evaluation
from macurr.training.panels import STYLE
from macurr.training.report import _draw
from macurr.training.reporting.headline import summary
from macurr.training.reporting.levels import chosen_levels
from macurr.training.reporting.machine import speed_section
from macurr.training.reporting.record import History, read_record
from macurr.training.reporting.rivals import rivals_section
from macurr.training.reporting.words import percent
from macurr.training.rundir import RunDir, read_csv
from macurr.training.scoring import Team

# What a fixture of the module trains is trained once.
pytestmark = pytest.mark.xdist_group("report")

TINY = {
    "transport": "local",
    "workers": 1,
    "envs_per_worker": 4,
    "hidden": (8,),
    "rollout": 30,
    "epochs": 1,
    "minibatches": 2,
    "levels": 20,
    "snapshot_every": 2,
    "seeds": 3,
    "matrix_seeds": 2,
    "steps": 960,
    "tensorboard": False,
    "report": False,
}
SECTIONS = ["learning", "opponents", "levels", "curriculum", "lag", "throughput", "settings", "again"]
VOID = {"meta", "img", "br", "input", "link", "hr"}


def trained(path, **settings):
    train(TrainConfig.of(**{**TINY, **settings}, out=str(path)))
    return path


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """A finished run of an environment that draws, with its report. Not to be written to."""
    return trained(
        tmp_path_factory.mktemp("race") / "run", report=True, env_args={"size": 5, "max_cycles": 20}
    )


class Page(HTMLParser):
    """A page, parsed; complains where an element is not closed where it should be."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text()
        self.open, self.starts, self.words = [], [], []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.starts.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.starts.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def all(self, tag, **wanted):
        """The attributes of elements, by tag and attributes."""
        return [a for t, a in self.starts if t == tag and wanted.items() <= a.items()]

    @property
    def said(self):
        return " ".join(" ".join(self.words).split())

    def reading(self, title):
        """What can be read off the chart of a title."""
        figure = re.search(r"<figure[^>]*>\s*<figcaption><strong>" + re.escape(title), self.text)
        reading = re.search(r'data-reading="([^"]*)"', figure[0])[1]
        return json.loads(reading.replace("&#34;", '"'))

    def rows(self, title):
        """The cells of a folded table."""
        start = self.text.index(f"<summary>{title}")
        body = self.text[start : self.text.index("</table>", start)].partition("<tbody>")[2]
        cells = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in body.split("</tr>")]
        return [row for row in cells if row]


def gifs(page):
    found = page.all("img", **{"class": "moving"})
    contents = [image["src"].partition("data:image/gif;base64,")[2] for image in found]
    return [Image.open(io.BytesIO(base64.b64decode(content, validate=True))) for content in contents]


# The page of a finished run


def test_the_page_has_every_section_and_a_way_to_each(race):
    page = Page(race / "report.html")
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert [link["href"] for link in page.all("a")] == [f"#{key}" for key in SECTIONS]
    assert "apple_race_v0" in page.said
    assert "stopped before its end" not in page.said


def test_the_page_asks_for_nothing_from_anywhere(race):
    page = Page(race / "report.html")
    for tag, attributes in page.starts:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), (tag, attributes[name][:80])
    assert not page.all("link")
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    script = page.text.partition("<script>")[2].partition("</script>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert re.findall(r"https?://[^\"' ]*", script) == ["http://www.w3.org/2000/svg"], "a name, no address"
    assert not re.search(r"fetch|XMLHttp|import\(|WebSocket|sendBeacon", script)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_everything_can_be_read_without_seeing(race):
    page = Page(race / "report.html")
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert page.all("html", lang="en")
    assert "prefers-color-scheme: dark" in page.text


def test_the_head_tells_the_numbers_of_the_evaluation(race):
    page = Page(race / "report.html")
    evaluation = Evaluation.from_json((race / "evaluation.json").read_text())
    values = [float(item["value"]) for item in page.all("data")]
    assert values[:3] == [evaluation.row("random").score, evaluation.rows[1].score, 960.0]
    assert f"scores {percent(evaluation.row('random').score, 1)} against random play" in page.text


def test_curves_are_those_of_the_tables(race):
    page = Page(race / "report.html")
    metrics = read_csv(race / "metrics.csv")
    reading = page.reading("Return of the learner")
    assert reading["head"] == [f"{step:,.0f} steps" for step in metrics["steps"]]
    said = [float(value) for value in reading["rows"][0]["said"]]
    assert said == pytest.approx(metrics["learner_return"], rel=5e-3)
    lost, drawn, won = page.reading("Against the pool")["rows"]
    assert (lost["name"], drawn["name"], won["name"]) == ("lost", "drawn", "won")
    shares = [float(value.strip("%\N{NO-BREAK SPACE}")) / 100 for value in won["said"]]
    assert shares == pytest.approx(metrics["win"], abs=6e-3)
    entropy = page.reading("How widely it chooses")["rows"][0]["said"]
    assert [float(value) for value in entropy] == pytest.approx(metrics["curriculum_entropy"], rel=5e-3)


def test_every_column_of_numbers_is_drawn(race):
    page = Page(race / "report.html")
    for column in ("policy_loss", "value_loss", "approx_kl", "clip_fraction", "learning_rate"):
        assert f"<span>{column}</span>" in page.text


def test_tables_are_those_of_the_evaluation(race):
    page = Page(race / "report.html")
    evaluation = Evaluation.from_json((race / "evaluation.json").read_text())
    rows = page.rows("Every opponent in numbers")
    assert [row[0] for row in rows] == [row.opponent for row in evaluation.rows]
    assert [row[6] for row in rows] == [percent(row.score, 1) for row in evaluation.rows]
    ranked = page.rows("Ratings in numbers")
    assert [row[1] for row in ranked] == ["0", "240", "480", "720", "960"]
    elo = np.array([float(row[2]) for row in ranked])
    assert elo.mean() == pytest.approx(1500, abs=1)
    matrix = page.text[page.text.index("Who beats whom") :]
    for i, line in enumerate(evaluation.matrix):
        for j, score in enumerate(line):
            if i < j:
                assert f"scores {percent(score, 1)} against" in matrix


def test_the_gallery_shows_the_most_played_levels_and_a_match_on_each(race):
    page = Page(race / "report.html")
    plays = RunDir.open(race)[0].load()["history"]["plays"]
    shown = [int(card["id"].removeprefix("level-")) for card in page.all("article")]
    assert len(shown) == 6
    assert sorted(plays[shown].tolist(), reverse=True) == sorted(plays.tolist(), reverse=True)[:6]
    for level in shown:
        card = page.text.partition(f'id="level-{level}"')[2].partition("</article>")[0]
        assert f"<dt>episodes</dt><dd>{plays[level]}</dd>" in card
        steps = int(re.search(r"</strong>, (\d+) steps", card)[1])
        moving = Image.open(io.BytesIO(base64.b64decode(re.search(r'gif;base64,([^"]*)', card)[1])))
        assert moving.n_frames > 1
        assert sum(duration(moving)) >= 1000
        assert moving.n_frames <= steps + 1 <= 21
        assert "player_0: the final policy" in card


def duration(picture):
    for i in range(picture.n_frames):
        picture.seek(i)
        yield picture.info["duration"]


def test_the_same_match_is_filmed_again(race, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(race, again)
    page = Page(write_report(again))
    first = [image["src"] for image in Page(race / "report.html").all("img")]
    assert [image["src"] for image in page.all("img")] == first


def test_a_page_is_small_and_a_picture_lies_beside_it(race):
    assert (race / "report.html").stat().st_size < 5_000_000
    assert (race / "report.png").read_bytes().startswith(b"\x89PNG")


def test_settings_that_differ_are_marked(race):
    page = Page(race / "report.html")
    lead = page.said.partition("Different from the default:")[2]
    for said in (
        "env_args size=5, max_cycles=20",
        "envs_per_worker 4",
        "hidden 8",
        "transport local",
        "levels 20",
    ):
        assert said in lead
    names = {item.name for part in (TrainConfig(), TrainConfig().ppo) for item in dataclasses.fields(part)}
    names -= {"ppo", "model", "policies", "pbt", "tasks", "evaluation"}
    assert all(f'<th scope="row">{name}</th>' in page.text for name in names)
    assert f"macurr train --config {race / 'config.yaml'} --out ANOTHER_DIRECTORY" in page.text


def test_films_can_be_left_out(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    page = Page(write_report(tmp_path / "run", films=False))
    assert page.all("img") == []
    assert len(page.all("article")) == 6
    assert "no pictures of the levels: none were asked for" in page.said


def test_names_cannot_be_markup(race, tmp_path):
    folder = tmp_path / "<b>&\"'"
    shutil.copytree(race, folder)
    page = Page(write_report(folder, films=False))
    assert page.all("b") == []
    assert f"macurr report '{folder}".partition("'")[0] in page.said
    assert "<b>&" in page.said, "as it is called"


# Other runs


def test_agents_that_learn_together(tmp_path):
    run = trained(tmp_path / "run", env="mpe2.simple_spread_v3", opponents="none", env_args={"max_cycles": 6})
    page = Page(write_report(run))
    assert [section["id"] for section in page.all("section")] == SECTIONS
    evaluation = Evaluation.from_json((run / "evaluation.json").read_text())
    assert float(page.all("data")[0]["value"]) == evaluation.team("final policy").mean_return
    rows = page.rows("Every policy in numbers")
    assert [row[0] for row in rows] == ["random", *(f"snapshot {i}" for i in range(4)), "final policy"]
    assert "Against the pool" not in page.said
    assert "all by the final policy" in page.said
    assert [gif.n_frames > 1 for gif in gifs(page)] == [True] * 6
    assert (run / "report.png").stat().st_size > 10_000


def test_roles_turns_and_memories(tmp_path):
    run = trained(
        tmp_path / "run",
        env="tests.support.drawn:DrawnTurns",
        recurrent="gru",
        recurrent_size=4,
        curriculum="dr",
    )
    page = Page(write_report(run))
    assert "Levels were drawn uniformly" in page.said
    assert [gif.n_frames for gif in gifs(page)] == [7] * 6
    assert "first: the final policy" in page.said


def test_several_policies_and_their_population(tmp_path):
    settings = {"num_policies": 2, "mapping": "random", "mapping_episodes": 1, "envs_per_worker": 8}
    population = {"pbt": True, "pbt_period": 480, "pbt_start": 480, "pbt_replace_gap": 0.0}
    run = trained(
        tmp_path / "run", env="tests.support.drawn:Drawn", **{**settings, **population, "steps": 2400}
    )
    page = Page(write_report(run))
    assert [section["id"] for section in page.all("section")] == [
        *SECTIONS[:4],
        "population",
        *SECTIONS[4:],
    ]
    names = [row["name"] for row in page.reading("Return of the learner")["rows"]]
    assert names == ["policy 0", "policy 1"]
    lines = [json.loads(line) for line in (run / "population.jsonl").read_text().splitlines()]
    rows = page.rows("Every round")
    assert [row[1] for row in rows] == [str(line["member"]) for line in lines]
    copies = [line for line in lines if line["copied_from"] is not None]
    assert page.text.count('class="ring"') == len(copies)
    if copies:
        assert f"{len(copies)} copied" in page.said
        one = copies[0]
        assert (
            f"<title>policy {one['member']} goes on with the weights of policy {one['copied_from']}"
            in page.text
        )
    # Each setting that was mutated has a chart that says what it is; the others are named.
    values = {name: {line["settings"][name] for line in lines} for name in lines[0]["settings"]}
    lead = page.said.partition("Nobody mutated ")[2].partition(".")[0]
    for name, meaning in {"learning_rate": "Adam's step size", "value": "weight of the value loss"}.items():
        assert (f"{meaning}" in page.said.partition("The population")[2].partition("Throughput")[0]) == (
            len(values[name]) > 1
        )
        assert (name.replace("_", " ") in lead) == (len(values[name]) == 1)


def test_an_environment_that_does_not_draw(tmp_path):
    page = Page(
        write_report(trained(tmp_path / "run", env="tests.support.training:Duel", curriculum="joint"))
    )
    assert "There are no pictures of the levels: the environment offers no rgb_array pictures" in page.said
    assert len(page.all("article")) == 6
    assert page.all("img") == []
    assert "left: the final policy" in page.said, "the match is told all the same"


def test_an_environment_that_fails_at_drawing(tmp_path):
    page = Page(write_report(trained(tmp_path / "run", env="tests.support.drawn:Torn")))
    assert "drawing failed with OSError: no paint" in page.said


# Runs that are not over


class Stopping(Listener):
    def updated(self, status):
        if status.update == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run that was interrupted after five updates. Not to be written to."""
    path = tmp_path_factory.mktemp("half") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig.of(**TINY, env="tests.support.drawn:Drawn", out=str(path)), Stopping())
    return path


@pytest.fixture
def stopped(half, tmp_path):
    shutil.copytree(half, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_that_was_stopped_is_shown_as_far_as_it_came(stopped):
    page = Page(write_report(stopped))
    assert [section["id"] for section in page.all("section")] == SECTIONS
    state = page.said.partition("This run was stopped before its end.")[2]
    assert "after update 5" in state
    assert "has not been evaluated yet" in page.said
    assert "the newest policy" in page.said
    assert len(gifs(page)) == 6
    assert "Opponents in training" in page.said, "what the curriculum knows of its opponents"
    assert not (stopped / "report.png").exists()


def test_a_run_that_is_going_on_says_who_is_at_work(stopped):
    run, _ = RunDir.open(stopped)
    with run.locked():
        page = Page(write_report(stopped))
    assert re.search(r"This run is still going on \(process \d+ on .*, since .*\)", page.said)
    assert "stopped before its end" in Page(write_report(stopped)).said


def test_a_snapshot_that_came_while_the_report_was_made_changes_nothing_else(stopped):
    record = read_record(stopped)
    assert "now draws most often" in rivals_section(record).lead
    pool = AgentPool(stopped / "snapshots")
    pool.add(pool.get(pool.latest), update=9, steps=1000, policies=1)
    section = rivals_section(record)
    assert "now draws most often" not in section.lead
    assert [chart.title for chart in section.charts] == ["Opponents in training"]


def test_what_a_crash_left_is_enough(stopped):
    (stopped / "checkpoint.state").write_bytes(b"half a")
    with (stopped / "metrics.csv").open("a") as table:
        table.write("6,720,3")
    shutil.rmtree(stopped / "snapshots")
    page = Page(write_report(stopped))
    assert "no readable checkpoint" in page.said
    assert page.reading("Return of the learner")["head"][-1] == "600 steps"
    assert page.all("article") == []


def test_an_evaluation_of_a_run_that_went_on_is_marked(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open("a") as table:
        last = (race / "metrics.csv").read_text().splitlines()[-1].split(",")
        table.write(",".join(["9", "1080", *last[2:]]) + "\n")
    page = Page(write_report(tmp_path / "run", films=False))
    assert "The run has gone on since this evaluation" in page.said
    assert not read_record(tmp_path / "run").evaluated
    assert read_record(race).evaluated


@pytest.mark.parametrize("asynchronous", [False, True])
def test_only_asynchronous_training_runs_beside_the_rest(race, asynchronous):
    record = read_record(race)
    assert not record.config.asynchronous
    record = dataclasses.replace(record, config=dataclasses.replace(record.config, async_rl=asynchronous))
    [chart] = [chart for chart in speed_section(record).charts if chart.title == "Where the time goes"]
    assert ("training runs beside the rest" in chart.note) == asynchronous


def test_opponents_and_levels_are_in_one_picture(race):
    page, record = Page(race / "report.html"), read_record(race)
    assert "Which opponents and levels when" in page.said
    history = record.history
    assert history.met[-1].sum() == history.total.sum(), "each episode has an opponent"
    assert history.taken.tolist() == [record.steps_of(int(i)) for i in history.opponents]
    for snapshot, games in zip(history.opponents, np.diff(history.met, axis=0, prepend=0).T, strict=True):
        told = f"the snapshot of {record.steps_of(int(snapshot))} steps: "
        episodes = [int(said.split(": ")[1].split()[0]) for said in page.words if said.startswith(told)]
        # Once for the page, once for phones, which show as few stretches as they are.
        assert episodes == 2 * games[games > 0].tolist()


def test_the_matrix_ranks_nobody_where_it_tells_nobody_apart(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    record = read_record(tmp_path / "run")
    n = len(record.evaluation.snapshots)
    even = tuple(tuple(None if i == j else 0.5 for j in range(n)) for i in range(n))
    clear = tuple(tuple(None if i == j else float(i > j) for j in range(n)) for i in range(n))
    for matrix, said in ((even, "tell no two of them apart"), (clear, "one number ranks them fairly")):
        evaluation = dataclasses.replace(record.evaluation, matrix=matrix, matrix_seeds=50)
        (tmp_path / "run" / "evaluation.json").write_text(evaluation.to_json())
        assert said in rivals_section(read_record(tmp_path / "run")).lead


def test_a_run_of_one_update_is_drawn(stopped):
    for table in ("metrics.csv", "timing.csv"):
        file = stopped / table
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    (stopped / "checkpoint.state").unlink()
    page = Page(write_report(stopped, films=False))
    drawn = [name for name in ("polyline", "polygon", "circle") for _ in page.all(name)]
    assert drawn.count("polygon") >= 3, "the shares of the only update"
    assert drawn.count("circle") >= 4, "its numbers"
    found = re.findall(r"<data[^>]*>120</data><span>([^<]*)</span><small>([^<]*)<", page.text)
    assert found == [("environment steps", "1 update")]
    assert "120" in page.words, "the axis ends with the update"
    assert not [word for word in page.words if re.fullmatch(r"1[0-9]{2}\.[0-9]", word)]


def test_a_run_that_is_not_ones_own_is_reported_elsewhere(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    file = write_report(tmp_path / "run", films=False, out=tmp_path / "mine.html")
    assert file == tmp_path / "mine.html"
    assert [section["id"] for section in Page(file).all("section")] == SECTIONS
    with Image.open(tmp_path / "mine.png") as picture:
        assert picture.width > 1000
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == before
    with pytest.raises(ConfigError, match=r"mine\.html cannot be written: .*--out FILE.*intact"):
        write_report(race, films=False, out=tmp_path / "nowhere" / "mine.html")


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"abc"])
def test_a_damaged_number_is_missing(race, tmp_path, damage):
    shutil.copytree(race, tmp_path / "run")
    for table in ("metrics.csv", "timing.csv"):
        file = tmp_path / "run" / table
        rows = file.read_bytes().splitlines(keepends=True)
        rows[2] = rows[2].rpartition(b",")[0] + b"," + damage + b"\n"
        file.write_bytes(b"".join(rows))
    record = read_record(tmp_path / "run")
    assert np.isnan(record.metrics["learning_rate"]).tolist() == [
        False,
        True,
        *[False] * (record.updates - 2),
    ]
    page = Page(write_report(tmp_path / "run", films=False))
    assert page.reading("Step size")["rows"][0]["said"][1] == "\N{EN DASH}"


def test_a_damaged_evaluation_is_told(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text("{")
    page = Page(write_report(tmp_path / "run", films=False))
    assert "evaluation.json cannot be read" in page.said


def test_a_run_without_numbers_is_refused(race, tmp_path):
    shutil.copytree(race, tmp_path / "run")
    (tmp_path / "run" / "metrics.csv").unlink()
    with pytest.raises(ConfigError, match="no numbers yet"):
        write_report(tmp_path / "run")
    with pytest.raises(ConfigError, match="not the directory of a macurr run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"curriculum": "plr"},
            "PPO with prioritized level replay and prioritized fictitious self-play, trained",
        ),
        (
            {"curriculum": "dr", "opponents": "none"},
            "PPO with uniform levels and all agents learning together, trained",
        ),
        ({"curriculum": "joint"}, "PPO with levels and opponents drawn together, trained"),
    ],
)
def test_the_summary_says_what_chose_levels_and_opponents(race, settings, said):
    record = read_record(race)
    record = dataclasses.replace(record, config=dataclasses.replace(record.config, **settings))
    assert summary(record).startswith(said)


# The picture


def axes_of(record):
    with mpl.rc_context(STYLE):
        return {axes.get_title(loc="left"): axes for axes in _draw(record, record.evaluation).axes}


def test_the_picture_shows_a_critic_that_knows_nothing_yet(race):
    record = read_record(race)
    knows = np.linspace(-0.8, 0.4, record.updates)
    worse = np.linspace(-40.0, 0.4, record.updates)
    for values, bottom in ((knows, -0.88), (worse, -1.0), (np.abs(knows), 0.0)):
        metrics = {**record.metrics, "explained_variance": values}
        axes = axes_of(dataclasses.replace(record, metrics=metrics))["The learner"]
        assert axes.get_ylim() == pytest.approx((bottom, 1.0))


def test_the_picture_of_agents_that_learn_together_has_no_empty_corner(race):
    record = read_record(race)
    assert "Who beats whom" in axes_of(record)
    team = Team("final policy", 960, 3, 1.5, 1.0, 2.0, (1.0, 2.0))
    evaluation = dataclasses.replace(record.evaluation, rows=(), snapshots=(), matrix=(), teams=(team,))
    together = dataclasses.replace(record, evaluation=evaluation)
    axes = axes_of(together)["How widely it chooses levels"]
    assert axes.get_ylim()[1] >= np.log(20)
    said = [text.get_text() for text in _draw(together, evaluation).texts]
    assert "the final policy returns 1.5 (1 to 2)" in said


# Levels


def test_levels_are_chosen_by_plays_or_by_mean_score():
    scores = np.array([[np.nan, 4.0, 1.0, np.nan], [2.0, 0.0, 3.0, np.nan]])
    history = History(np.array([1.0, 2.0]), np.array([[0, 1, 1, 0], [5, 1, 7, 0]]), scores)
    assert chosen_levels(history, "plr") == [2, 0, 1]
    assert chosen_levels(history, "plr", most=1) == [2]
    assert chosen_levels(history, "dr") == [0, 1, 2]
    assert history.intervals.tolist() == [[0, 1, 1, 0], [5, 0, 6, 0]]
