"""dspark bench: what it reports, and in which form. No number is judged: machines differ, and this one may be busy."""
import math
import os
import tempfile
import xml.etree.ElementTree

from cli import DRAFTER, TARGET, CliTest, dspark, main

QUICK = ["--widths", "3..4", "--repeat", "2", "-n", "6", "--ctx", "40"]
MEMBERS = ["model", "type", "device", "numerics", "fast", "threads", "isa", "context", "logits", "read_gbs", "peak_gmacs", "rows", "draft_ms", "prefill_tps",
           "decode_tps", "spec_tps", "tau", "load_s", "load_gbs", "load_peak_rss", "peak_rss", "linears", "others"]
NUMBERS = ["read_gbs", "peak_gmacs", "draft_ms", "prefill_tps", "decode_tps", "spec_tps", "load_s", "load_gbs"]
LINEARS = ["q", "k", "v", "gate", "up", "down", "o", "head"]


class Bench(CliTest):
    @classmethod
    def setUpClass(cls):
        """Two measurements serve all claims: a drafter's as JSON, and the table without one, with a drawing."""
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        svg = os.path.join(cls.folder.name, "passes.svg")
        cls.json_run = dspark("bench", "-m", TARGET, "-d", DRAFTER, "--json", "--threads", "2", *QUICK)
        cls.plain_run = dspark("bench", "-m", TARGET, "--svg", svg, *QUICK)

    def result(self):
        self.assertEqual(self.json_run.code, 0, self.json_run.err)
        return self.json_run.json()

    def test_the_object_has_every_member_with_its_type(self):
        result = self.result()
        self.assertEqual(list(result), MEMBERS)
        self.assertEqual([result[key] for key in ("model", "type", "device", "threads", "context")], [TARGET, "bf16", "cpu", 2, 40])
        self.assertIsInstance(result["isa"], str)
        self.assertIsInstance(result["peak_rss"], int)
        self.assertTrue(0 < result["load_peak_rss"] <= result["peak_rss"])
        for key in NUMBERS:
            self.assertIsInstance(result[key], float, key)
            self.assertTrue(math.isfinite(result[key]) and result[key] > 0, key)
        self.assertTrue(1 <= result["tau"] <= 8, "a round commits its target's token and at most the block")

    def test_rows_are_the_widths_asked_for_and_one(self):
        rows = self.result()["rows"]
        self.assertEqual([row["w"] for row in rows], [1, 3, 4])
        for row in rows:
            self.assertEqual(list(row), ["w", "ms", "ratio", "efficiency"])
            self.assertAlmostEqual(row["ratio"], row["ms"] / rows[0]["ms"])
            self.assertGreater(row["efficiency"], 0)

    def test_linears_of_one_row_and_of_the_most_are_told_and_share_a_pass(self):
        linears = self.result()["linears"]
        self.assertEqual([one["w"] for one in linears], [1] * 8 + [4] * 8)
        for w in 1, 4:
            mine = [one for one in linears if one["w"] == w]
            self.assertEqual(sorted(one["name"] for one in mine), sorted(LINEARS))
            self.assertTrue(0 < sum(one["share"] for one in mine) < 1, "other ops take time, too")
            for one in mine:
                self.assertEqual(list(one), ["w", "name", "type", "ms", "share", "efficiency"])
                self.assertEqual(one["type"], "bf16")

    def test_other_ops_are_told_and_all_shares_are_the_pass(self):
        result = self.result()
        for w in 1, 4:
            others = [one for one in result["others"] if one["w"] == w]
            self.assertTrue({"embed", "norm_quantize", "heads", "attention", "glu_quantize", "sample"} <= {one["name"] for one in others})
            for one in others:
                self.assertEqual(list(one), ["w", "name", "calls", "ms", "share"])
            shares = [one["share"] for one in [*others, *result["linears"]] if one["w"] == w]
            self.assertAlmostEqual(sum(shares), 1)

    def test_logits_of_the_last_row_only_have_no_efficiency(self):
        result = self.expect(0, "bench", "-m", TARGET, "--json", "--last-logits", *QUICK).json()
        self.assertEqual(result["logits"], "last")
        self.assertEqual([row["efficiency"] for row in result["rows"]], [None] * 3)
        self.assertEqual(self.result()["logits"], "all")

    def test_without_a_drafter_there_is_no_speculation_to_tell(self):
        result = self.expect(0, "bench", "-m", TARGET, "--json", *QUICK, "--widths", "1").json()
        self.assertEqual(list(result), MEMBERS)
        self.assertEqual([result[key] for key in ("draft_ms", "spec_tps", "tau")], [None] * 3)
        self.assertEqual({one["w"] for one in result["linears"]}, {1})

    def test_the_table_tells_the_same_widths(self):
        self.assertEqual(self.plain_run.code, 0, self.plain_run.err)
        out = self.plain_run.out
        for part in ["\n   1 ", "\n   3 ", "\n   4 ", "prefill", "decode", "attention", "head"]:
            self.assertIn(part, out)
        for part in ["\n   2 ", "nan", "speculate"]:
            self.assertNotIn(part, out)

    def test_the_drawing_is_xml_with_both_curves_and_appears_whole(self):
        self.assertEqual(os.listdir(self.folder.name), ["passes.svg"])
        root = xml.etree.ElementTree.parse(os.path.join(self.folder.name, "passes.svg")).getroot()
        curves = root.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual([curve.get("class") for curve in curves], ["floor", "measured"])
        self.assertEqual([len(curve.get("points").split()) for curve in curves], [16, 3])

    def test_a_drawing_that_cannot_be_written_is_refused_before_anything_is_measured(self):
        result = self.expect(1, "bench", "-m", TARGET, "--svg", "/nonexistent/x.svg", says="/nonexistent/x.svg")
        self.assertEqual(result.out, "")

    def test_a_failure_leaves_no_drawing_behind(self):
        with tempfile.TemporaryDirectory() as folder:
            self.expect(1, "bench", "-m", "/nonexistent", "--svg", os.path.join(folder, "x.svg"), says="'/nonexistent'")
            self.assertEqual(os.listdir(folder), [])

    def test_wrong_usage_is_explained(self):
        for widths in "0", "17", "3..1", "1,,2", "1,", "1..", "..4", "-1", "one", "":
            with self.subTest(widths=widths):
                self.expect_usage("bench", "-m", TARGET, "--widths", widths, says=["'--widths'", f"found '{widths}'", "1..16"])
        self.expect_usage("bench", says="'-m, --model PATH' is missing")
        self.expect_usage("bench", "-m", TARGET, "-n", "1", says="'--max-tokens'")
        self.expect_usage("bench", "-m", TARGET, "--repeat", "0", says="'--repeat'")
        self.expect_usage("bench", "-m", TARGET, "--draft-device", "cpu", says=["--draft-device", "--drafter"])

    def test_what_the_model_does_not_have_is_refused(self):
        for context in 4090, 1000000, 2**31 - 1:
            self.expect(1, "bench", "-m", TARGET, "--ctx", context, says="4096")
        self.expect(1, "bench", "-m", TARGET, "--device", "toaster", says=["toaster", "cpu"])
        self.expect(1, "bench", "-m", "/nonexistent", says="/nonexistent")


if __name__ == "__main__":
    main()
