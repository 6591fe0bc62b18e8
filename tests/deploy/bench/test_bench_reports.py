"""Reports of runs that are written down: files, tables, comparisons."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from deploy.bench import runfile, table
from deploy.bench.amounts import distribution
from deploy.bench.compare import compare, compare_table, doubts
from deploy.bench.records import COLUMNS, CallRecord
from deploy.bench.runfile import BadRun
from tests.deploy.bench.running import bench
from tests.deploy.bench.runs import made_up


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    file, run = tmp_path / "run.json", made_up("before")
    runfile.write(run, file)
    assert runfile.read(file) == run


def test_the_file_is_as_documented(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    runfile.write(made_up("before", levels=(2,)), file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["schema"] == "lmi-bench/1"
    assert tuple(found["columns"]) == COLUMNS == CallRecord.__struct_fields__
    (stage,) = found["stages"]
    assert stage["stage"] == {"index": 0, "loop": "closed", "level": 2.0}
    assert len(stage["data"]["calls"][0]) == len(COLUMNS)
    assert stage["summary"]["succeeded"] == len(stage["data"]["calls"])


def test_later_fields_are_no_obstacle(tmp_path: Path) -> None:
    file, run = tmp_path / "run.json", made_up("before", levels=(1,))
    runfile.write(run, file)
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"later": 1}), encoding="utf-8")
    assert runfile.read(file) == run


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("{", "not the file of a run", id="no JSON"),
        pytest.param("{}", "its schema is '', and not 'lmi-bench/1'", id="another file"),
        pytest.param('{"schema": "lmi-bench/9"}', "its schema is 'lmi-bench/9'", id="a later schema"),
        pytest.param(
            '{"schema": "lmi-bench/1"}', "not the file of a run: Object missing required field", id="incomplete"
        ),
    ],
)
def test_another_file_is_no_run(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(BadRun, match=re.escape(said)):
        runfile.read(file)
    assert said.partition(":")[0] in bench("report", str(file), code=1).output


def test_a_run_is_judged_anew(tmp_path: Path) -> None:
    file, csv = tmp_path / "run.json", tmp_path / "run.csv"
    runfile.write(made_up("before"), file)
    output = bench("report", str(file), "--slo", "e2e=10s", "--instance-price", "3.6", "--csv", str(csv)).output
    heading = output.splitlines()[2]
    assert heading.split("  ")[-2:] == ["goodput/s", "cost/1M out"]
    # 1 caller: 11 tokens a second of about 1 s; 3.6 an hour for 39,600 tokens.
    assert re.search(r"^ +1 .* 1\.0\d +9\d\.\d$", output, re.MULTILINE)
    assert csv.read_text(encoding="utf-8").count("\n") == 4


def test_the_table_of_a_run() -> None:
    rows = table.run_table(made_up("before"))
    assert rows[0][:3] == ["concurrency", "requests/s", "output tok/s"]
    assert [row[0] for row in rows[1:]] == ["1", "4", "16"]
    assert [len(row) for row in rows] == [12] * 4


def test_a_faster_run_is_better_beyond_the_noise() -> None:
    levels = compare(made_up("before"), made_up("after", pace=0.8, seed=1))
    assert [item.level for item in levels] == ["1", "4", "16"]
    found = {difference.name: difference for difference in levels[2].differences}
    for name, improvement in {
        "requests/s": 25,
        "output tok/s": 25,
        "TTFT p50": 20,
        "e2e p50": 20,
        "mean ITL p50": 20,
    }.items():
        assert found[name].improvement == pytest.approx(improvement, abs=2), name
        assert found[name].beyond_noise is True, name


def test_the_same_again_is_noise() -> None:
    levels = compare(made_up("before"), made_up("after", seed=1))
    told = [difference for item in levels for difference in item.differences if difference.beyond_noise]
    assert told == []


def test_too_few_values_are_told_as_such() -> None:
    rows = compare_table(compare(made_up("before", levels=(1,)), made_up("after", pace=0.5, levels=(1,))))
    by_name = {row[1]: row[4] for row in rows}
    assert by_name["TTFT p99"].endswith(" ?")
    assert by_name["TTFT p50"].endswith(" *")


def test_few_slices_that_differ_by_chance_are_not_told_apart() -> None:
    # Calls of 3 s leave six slices of a window of 20 s: too few to call a rate different.
    rows = compare_table(compare(made_up("before", 3.0, levels=(4,)), made_up("after", 2.9, levels=(4,), seed=1)))
    assert {row[1]: row[4][-1] for row in rows if row[1].endswith("/s")} == {"requests/s": "?", "output tok/s": "?"}


def test_what_makes_a_comparison_doubtful_is_told(tmp_path: Path) -> None:
    before, after = made_up("before"), made_up("after", seed=1)
    assert doubts(before, after) == []
    prompts = msgspec.structs.replace(after.plan.prompts, input_tokens=distribution("999"))
    after = msgspec.structs.replace(after, plan=msgspec.structs.replace(after.plan, prompts=prompts))
    before.stages[1].data.generator.cpu = [0.99]
    before = runfile.judged(before, None, None)
    said = [
        "The two runs were not asked the same: they differ in prompts.",
        "At 4 of the run before the generator may have been the limit.",
    ]
    assert doubts(before, after) == said
    for run in (before, after):
        runfile.write(run, tmp_path / run.label)
    html = tmp_path / "both.html"
    options = ("--compare", str(tmp_path / "before"), "--html", str(html))
    output = bench("report", str(tmp_path / "after"), *options).output
    assert [f"WARNING: {each}" in output for each in said] == [True, True]
    assert [f"WARNING: {each}" in html.read_text(encoding="utf-8") for each in said] == [True, True]


def test_a_tail_of_few_calls_is_told_as_such() -> None:
    assert table.notes(made_up("few", levels=(1, 4, 16))) == [
        "At 1, 4 fewer than 100 calls were complete: p99 is about the slowest one."
    ]


def test_runs_without_a_common_level_cannot_be_compared(tmp_path: Path) -> None:
    for name, level in (("one", 1), ("two", 2)):
        runfile.write(made_up(name, levels=(level,)), tmp_path / name)
    output = bench("report", str(tmp_path / "one"), "--compare", str(tmp_path / "two")).output
    assert "The two have no level in common." in output


def test_a_comparison_in_text(tmp_path: Path) -> None:
    for name, pace in (("before", 1.0), ("after", 1.25)):
        runfile.write(made_up(name, pace), tmp_path / name)
    output = bench("report", str(tmp_path / "after"), "--compare", str(tmp_path / "before")).output
    assert "after (after) beside before (before)" in output
    assert re.search(r"16 +e2e p50 +1,00\d +1,2\d\d +-2[456]\.\d% \*", output)
    assert "Mann-Whitney" in output


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    assert "No such file" in bench("report", str(tmp_path / "none.json"), code=1).output
    runfile.write(made_up("before", levels=(1,)), tmp_path / "run.json")
    output = bench("report", str(tmp_path / "run.json"), "--html", str(tmp_path / "no" / "x.html"), code=1).output
    assert "No such file" in output


def test_an_interrupted_run_without_a_stage_can_be_reported(tmp_path: Path) -> None:
    run = msgspec.structs.replace(made_up("nothing"), stages=[], complete=False)
    runfile.write(run, tmp_path / "run.json")
    output = bench("report", str(tmp_path / "run.json"), "--html", str(tmp_path / "run.html")).output
    assert "nothing: nothing was measured" in output
