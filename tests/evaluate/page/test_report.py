"""The page needs nothing else, escapes everything, and shows what it was given."""

import base64
import copy
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from scopeworks.evaluate.page import entries as page_entries
from scopeworks.evaluate.page import plots, svg, tables
from scopeworks.evaluate.page.markup import percent
from scopeworks.evaluate.page.report import write_report
from scopeworks.evaluate.run import SUBSET_FIGURES

EVIL = "</div><script src=//evil.example>alert('1')</script>\"&$x$"


class Page(HTMLParser):
    """Tags with attributes, visible text, and whether tags close in order."""

    VOID = frozenset({"meta", "path", "use", "br", "wbr", "link", "img"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def rendered(evaluation, tmp_path_factory) -> tuple[str, Page]:
    """The page of that evaluation; drawing it takes most of a test's time."""
    return page_of(tmp_path_factory.mktemp("report"), evaluation)


def page_of(tmp_path, *evaluations) -> tuple[str, Page]:
    text = write_report(tmp_path, list(evaluations)).read_text(encoding="utf-8")
    return text, Page(text)


def test_page_asks_for_nothing_from_outside(rendered):
    text, page = rendered
    assert "://" not in text
    assert not {"link", "img", "iframe", "object", "image"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert "src" not in attributes
        for name in ("href", "style", "clip-path"):
            assert "url(" not in (attributes.get(name) or "").replace("url(#", "")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", text)


def test_first_screen_and_table_say_what_their_intervals_hold_for(rendered):
    _text, page = rendered
    said = "95% intervals? over sequences of these documents; other documents may differ by more"
    assert len(re.findall(said, page.text)) == 2


def test_only_the_pages_own_script_may_run(rendered):
    text, page = rendered
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "content" in a][:1]
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_ids_on_the_page_are_unique_and_references_resolve(rendered):
    text, page = rendered
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    assert used
    assert used <= set(ids)


def test_everything_is_escaped(tmp_path, evaluation):
    evil = copy.deepcopy(evaluation)
    evil["model"]["name"] = "org/" + EVIL.replace("/", "|")
    evil["settings"]["tokens"] = EVIL
    for entry in evil["saes"]:
        entry["name"] = EVIL
        entry["site"] = EVIL
        entry["training"]["settings"]["store"] = EVIL
        del entry["config"]["sparsity"]
        for latent in entry["top_activations"]:
            for snippet in latent["snippets"]:
                snippet["tokens"] = [EVIL] * len(snippet["tokens"])
    _, page = page_of(tmp_path, evil)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert EVIL in page.text


def test_ladders_join_widths_of_one_site_and_price_only(evaluation):
    first, second, third = (copy.deepcopy(entry) for entry in evaluation["saes"])
    key = ("resid_post.1", 1e-3)
    assert [e["name"] for e in page_entries.rungs([second, first, third])[key]] == ["sae0", "sae1"]
    second["training"]["settings"]["target_l0"] = 9.0
    assert page_entries.rungs([first, second, third]) == {}
    second["training"]["settings"]["target_l0"] = None
    second["site"] = second["target_site"] = "mlp_out.1"
    assert page_entries.rungs([first, second, third]) == {}


def test_page_shows_every_sae_with_its_figures(rendered, evaluation):
    _, page = rendered
    for entry in evaluation["saes"]:
        for shown in (
            entry["name"],
            f"{entry['l0']:.1f}",
            f"{entry['fvu']:.4f}",
            f"{entry['delta_loss']:+.4f}",
        ):
            assert shown in page.text
    assert "2,048 sequences were asked for and 6 measured" in page.text
    for heading in ("Sparsity and fidelity", "Firing frequencies", "Training", "By position"):
        assert heading in page.text


def test_tokens_are_shaded_by_activation(rendered, evaluation):
    _, page = rendered
    shaded = [
        a for tag, a in page.tags if tag == "span" and (a.get("style") or "").startswith("--a:")
    ]
    snippets = [
        s for e in evaluation["saes"] for latent in e["top_activations"] for s in latent["snippets"]
    ]
    assert len(shaded) == sum(value > 0 for s in snippets for value in s["activations"])
    assert sum(a.get("class") == "peak" for a in shaded) == len(snippets)
    assert all(": " in a["title"] for a in shaded)


def test_report_takes_files_and_several_evaluations(tmp_path, evaluation):
    path = tmp_path / "e.json"
    path.write_text(json.dumps(evaluation))
    out = write_report(tmp_path / "deep" / "page.html", [path, on_rollouts(evaluation)])
    assert out == tmp_path / "deep" / "page.html"
    assert Page(out.read_text()).text.count("sae0") >= 2
    twice = r"each be given once, got SAE sae0 twice, in \S+e\.json and in evaluations\[1\]"
    with pytest.raises(ValueError, match=twice):
        write_report(tmp_path / "twice.html", [path, evaluation | {"seconds": 7.0}])
    assert not (tmp_path / "twice.html").exists()


def test_report_takes_one_evaluation_without_a_list(tmp_path, evaluation):
    path = tmp_path / "e.json"
    path.write_text(json.dumps(evaluation))
    wanted = write_report(tmp_path / "page.html", [path]).read_bytes()
    for one in (path, str(path), evaluation):
        assert write_report(tmp_path / "one.html", one).read_bytes() == wanted
    with pytest.raises(FileNotFoundError, match="none-here"):
        write_report(tmp_path / "one.html", path, studies="none-here")


def on_rollouts(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The same SAEs, measured on another model's rollouts: each costs half as much there."""
    other = copy.deepcopy(evaluation)
    other["settings"]["positions"] = "rollout"
    other["model"] |= {"name": "org/tuned", "fingerprint": "e" * 16}
    for entry in other["saes"]:
        entry["delta_loss"] /= 2
    return other


def test_evaluations_that_differ_are_told_apart_everywhere(tmp_path, evaluation):
    both = page_entries.marked([evaluation, on_rollouts(evaluation)])
    entries = [entry for one in both for entry in one["saes"]]
    assert {page_entries.on(one) for one in entries} == {"grouped", "tuned"}
    alone = {id(one) for part in both for one in page_entries.best(part["saes"])}
    assert {id(one) for one in page_entries.best(entries)} == alone
    names = [name for name, _ in page_entries.slots(entries)]
    assert len(set(names)) == len(names) == 2 * len(page_entries.slots(evaluation["saes"]))
    text, page = page_of(tmp_path, evaluation, on_rollouts(evaluation))
    assert "resid_post.1 (tuned)" in page.text and "resid_post.1 (grouped)" in page.text
    assert text.count(">measured on<") == 2  # the table, and its details
    headline = re.search(r"The first evaluation’s SAE with L0 nearest 100: ([^,]*),", page.text)
    assert headline is not None and headline[1] == "resid_post.1 (grouped)"
    assert "measured on<" not in page_of(tmp_path, evaluation)[0]


def test_a_name_may_break_after_its_underscores(rendered, evaluation):
    assert "a_<wbr>b/<wbr>c" in tables.table(["x"], [["a_b/c"]], "caption")
    assert "starts high" not in rendered[1].text


def test_decades_are_few_enough_to_be_named_side_by_side(evaluation):
    some = copy.deepcopy(evaluation["saes"][:1])
    edges = [-8 + 0.1 * i for i in range(81)]
    some[0]["firing"] |= {"log10_edges": edges, "histogram": [1] * 80}
    named = re.findall(r">10(?:⁻\d|⁻[⁰¹²³⁴-⁹]|⁰)<", plots.firing(some))
    assert named == [">10⁰<", ">10⁻²<", ">10⁻⁴<", ">10⁻⁶<", ">10⁻⁸<"]


def test_what_evaluations_differ_in_is_named_once(evaluation):
    others = [copy.deepcopy(evaluation) for _ in range(3)]
    others[1]["settings"] |= {"positions": "prompt", "norms_of": "org/base"}
    others[2]["settings"] |= {"positions": "prompt", "device": "cuda"}
    found = [page_entries.on(one["saes"][0]) for one in page_entries.marked(others)]
    assert found == [
        "all positions, own norms",
        "prompt, norms of base",
        "prompt, own norms",
    ]
    others[1]["settings"] = others[0]["settings"]
    others[2]["settings"] = others[0]["settings"] | {"other_model": True}
    found = [page_entries.on(one["saes"][0]) for one in page_entries.marked(others)]
    assert found == ["its own SAEs", "its own SAEs", "SAEs of another model"]
    others[2]["settings"] = others[0]["settings"]
    assert [page_entries.on(one["saes"][0]) for one in page_entries.marked(others)] == [""] * 3


def test_an_sae_that_was_steered_is_named_by_what_was_wanted(evaluation):
    one = copy.deepcopy(evaluation["saes"][0])
    assert page_entries.sparsity_label(one) == "λ 0.001"
    one["config"]["sparsity"] = -3712.0
    assert page_entries.sparsity_label(one) == "λ −3,710"
    one["training"]["settings"]["target_l0"] = 10.0
    assert page_entries.sparsity_label(one) == "wanted L0 10"
    one["training"]["settings"]["target_l0"] = "<b>"
    assert page_entries.sparsity_label(one) == "λ −3,710"
    one["config"]["sparsity"] = None
    one["training"] = None
    assert page_entries.sparsity_label(one) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "0.00001"), (-0.00012345, "−0.000123"), (123456.0, "123,000"), (1e-30, "1e−30")],
)
def test_prices_have_no_exponent_unless_they_are_far_from_one(value, text):
    assert page_entries.three_digits(value) == text


def test_report_of_one_foreign_sae_leaves_out_what_is_not_known(tmp_path, evaluation):
    single = copy.deepcopy(evaluation)
    single["saes"] = single["saes"][:1]
    single["saes"][0] |= {"training": None, "delta_loss_stderr": None, "recovered_share": None}
    del single["saes"][0]["top_activations"]
    _, page = page_of(tmp_path, single)
    assert "Training settings" not in page.text
    assert "Text subsets" not in page.text
    assert "Importance of latents" not in page.text
    assert "What latents react to" not in page.text


def test_subsets_and_importance_are_shown_where_measured(tmp_path, evaluation):
    full = copy.deepcopy(evaluation)
    figures = {name: full["saes"][0][name] for name in ("name", *SUBSET_FIGURES)}
    full["subsets"] = {
        EVIL: {"n_sequences": 77, "clean_loss": 1.25, "saes": [figures | {"fvu": 0.98765}]}
    }
    full["saes"][1]["importance"] = {
        "n_tokens": 6, "n_without_effect": 0, "r_l0": 0.4321, "effective_latents": 5.5,
        "active_latents": 12.0,
    }  # fmt: skip
    _, page = page_of(tmp_path, full)
    for shown in ("Text subsets", EVIL, "0.9877", "Importance of latents", "0.432"):
        assert shown in page.text
    assert [tag for tag, _ in page.tags].count("script") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "evaluation .*e.json is not valid JSON"),
        ("[]", "must be a result of scopeworks evaluate"),
        ('{"saes": []}', "settings is missing"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "e.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path, [path])


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (("saes",), [], "saes: "),
        (("saes", 0, "l0"), "12", r"saes\.0\.l0: input should be a valid number, got '12'"),
        (("saes", 0, "l0"), -1.0, r"saes\.0\.l0: "),
        (("saes", 0, "l0"), 10**400, r"saes\.0\.l0"),
        (("saes", 0, "l0"), 1e300, r"saes\.0\.l0"),
        (("saes", 0, "d_sae"), 0, r"saes\.0\.d_sae"),
        (("saes", 0, "site"), None, r"saes\.0\.site"),
        (("saes", 1, "config"), [], r"saes\.1\.config"),
        (("saes", 0, "firing", "histogram"), [1], "one more than the bins"),
        (("saes", 0, "by_position", "error"), [0.5], "by_position of sae0"),
        (("saes", 0, "top_activations", 0, "snippets", 0, "tokens"), ["a"], "of one length"),
        (("saes", 0, "top_activations", 0, "frequency"), 2.0, "frequency"),
        (("saes", 0, "training", "metrics", "fvu"), [1.0], "as long as step"),
        (("clean", "by_position", "n_predictions"), "x", "n_predictions"),
        (("baselines",), {"resid_post.1": 3}, "baselines"),
        (("model", "name"), 5, r"model\.name"),
        (("tokens", "context"), True, r"tokens\.context"),
        (("seconds",), "long", "seconds"),
    ],
)
def test_a_value_of_another_type_is_one_line_and_no_page(
    tmp_path, evaluation, entry, value, message
):
    wrong = copy.deepcopy(evaluation)
    parent = wrong
    for step in entry[:-1]:
        parent = parent[step]
    parent[entry[-1]] = value
    path = tmp_path / "e.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=message) as caught:
        write_report(tmp_path / "page", [path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page").exists()


def test_missing_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_report(tmp_path, [tmp_path / "none.json"])
    with pytest.raises(ValueError, match="must be given at least once"):
        write_report(tmp_path, [])


def test_position_bins_are_weighted_means_that_cover_every_position():
    values = [None, 5.0, 1.0, None, *[float(i) for i in range(4, 100)]]
    counts = [0, 2, 3, 0, *[1 + i % 3 for i in range(4, 100)]]
    positions, means = plots.position_bins(values, counts)
    assert positions[:2] == [1.0, 2.0]
    assert means[:2] == [5.0, 1.0]
    assert positions == sorted(positions)
    assert len(positions) < 40
    flat = plots.position_bins([1.5] * 100, counts)[1]
    assert flat == pytest.approx([1.5] * len(flat))


def test_spread_keeps_the_sparsest_and_the_densest():
    entries = [{"l0": float(i)} for i in range(50)]
    picked = page_entries.spread(list(reversed(entries)))
    assert len(picked) == page_entries.MAX_CURVES
    assert picked[0]["l0"] == 0.0
    assert picked[-1]["l0"] == 49.0


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100%"), (0.123, "12%"), (0.0123, "1.2%"), (1e-7, "0.00001%"), (0.0, "0%")],
)
def test_percent_keeps_two_digits(share, text):
    assert percent(share) == text


def test_url_as_out_is_refused(evaluation):
    with pytest.raises(ValueError, match=r"out must be a local path.*got gs://bucket/report"):
        write_report("gs://bucket/report", [evaluation])


def test_only_a_report_is_written_over(tmp_path, evaluation):
    (tmp_path / "mine.html").write_text("<!doctype html><p>years")
    with pytest.raises(ValueError, match=r"out must be a new file or a report .*got .*mine.html"):
        write_report(tmp_path / "mine.html", evaluation)
    assert (tmp_path / "mine.html").read_text() == "<!doctype html><p>years"
    first = write_report(tmp_path / "page.html", evaluation, title="One").read_bytes()
    assert write_report(tmp_path / "page.html", evaluation, title="Two").read_bytes() != first


@pytest.mark.parametrize("out", ["page.txt", "page.htm"])
def test_a_file_that_is_no_page_is_not_made_a_folder(tmp_path, evaluation, out):
    with pytest.raises(ValueError, match=rf"out must be a file that ends in .html.*got .*{out}"):
        write_report(tmp_path / out, evaluation)
    assert not list(tmp_path.iterdir())
    (tmp_path / out).mkdir()
    for folder in (out, "study.final"):
        assert write_report(tmp_path / folder, evaluation) == tmp_path / folder / "report.html"


def test_a_title_is_text(tmp_path, evaluation):
    with pytest.raises(ValueError, match="title must be text, got 3"):
        write_report(tmp_path, evaluation, title=3)  # pyright: ignore[reportArgumentType]


def test_legend_stands_below_the_plot_and_not_in_it():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.9, 3.3), layout="constrained")
    axes = figure.add_subplot()
    for i in range(5):
        axes.plot([0, 1], [i, 1], label=f"curve {i}")
    svg.legend(axes)
    figure.draw_without_rendering()
    (legend,), plot = figure.legends, axes.get_tightbbox()
    assert plot is not None
    assert legend.get_window_extent().y1 <= plot.y0
    assert figure.get_figheight() > 3.3


@pytest.fixture
def axes_of(monkeypatch):
    """A plotting function -> the axes it has drawn on."""
    from matplotlib.figure import Figure

    def draw(plot, alt):
        axes = Figure().add_subplot()
        plot(axes)
        return axes

    monkeypatch.setattr(plots, "draw", draw)
    return lambda function, *arguments: function(*arguments)


@pytest.mark.parametrize(("low", "error"), [(0.01, 0.2), (-0.5, 0.0), (-0.5, 0.2), (0.3, 0.01)])
def test_axis_holds_every_point_and_the_whole_of_its_bar(axes_of, evaluation, low, error):
    entries = copy.deepcopy(evaluation["saes"])
    for entry, value, half in zip(entries, (low, 1.5), (2 * error, 0.8), strict=False):
        entry |= {"delta_loss": value, "intervals": {"delta_loss": [value - half, value + half]}}
    bottom, top = axes_of(plots.frontier, entries, "delta_loss", "Δ loss").get_ylim()
    assert bottom <= min(0.0, low - 2 * error)
    assert bottom == 0.0 or bottom < low - 2 * error
    assert top > 1.5 + 0.8


def test_an_sae_without_an_active_latent_has_a_training_chart(axes_of, evaluation):
    entry = copy.deepcopy(evaluation["saes"][0])
    entry["training"]["metrics"]["l0"] = [9.0, 0.0, 0.0, 3.0, 0.0]
    axes = axes_of(lambda *of: plots.training(*of, log=True), [entry], "l0", "L0")
    (line,) = axes.get_lines()
    shown = [float(value) for value in line.get_ydata()]
    assert shown == pytest.approx([9.0, math.nan, math.nan, 3.0, math.nan], nan_ok=True)
    assert axes.get_ylim()[0] > 0


def test_width_ladder_shows_a_splice_that_helps_the_model(axes_of, evaluation):
    entries = copy.deepcopy(evaluation["saes"])
    entries[0]["delta_loss"] = -0.25
    assert axes_of(plots.width_ladder, entries, "delta_loss", "Δ loss").get_ylim()[0] < -0.25


def test_an_fvu_that_means_nothing_is_a_dash_and_no_point(tmp_path, evaluation):
    constant = copy.deepcopy(evaluation)
    for entry in constant["saes"]:
        entry["fvu"] = None
        entry["by_position"]["error"] = [None] * len(entry["by_position"]["error"])
    text, page = page_of(tmp_path, constant)
    assert "FVU against L0" not in text
    assert "of the variance" not in page.text
    constant["saes"][0]["fvu"] = 0.5
    _, page = page_of(tmp_path, constant)
    assert page.text.count("–") >= 2
