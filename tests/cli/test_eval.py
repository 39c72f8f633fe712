"""`dspark calibrate` and `dspark eval`: what they print, what they write, and what they refuse."""
import json
import os
import shutil
import tempfile
import unittest

import cli

PROMPTS = [
    {"turns": ["Tom has 5 apples and buys 7 more. How many apples does he have?"]},
    {"turns": ["A train travels 60 miles an hour for 3 hours. How far does it go?", "And in 5 hours?"]},
    {"turns": ["A shirt costs $25 and trousers cost twice as much. How much do both cost?"]},
    {"turns": ["Anna reads 20 pages a day. How long does she need for 340 pages?"]},
]


class Eval(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.prompts = os.path.join(self.folder, "sums.jsonl")
        with open(self.prompts, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(prompt) + "\n" for prompt in PROMPTS)
        self.drafter = os.path.join(self.folder, "drafter")
        os.mkdir(self.drafter)
        for name in ("config.json", "model.safetensors"):
            os.symlink(os.path.join(cli.DRAFTER, name), os.path.join(self.drafter, name))

    def tearDown(self):
        shutil.rmtree(self.folder)

    def pair(self, *args):
        return ("-m", cli.TARGET, "-d", self.drafter, "--threads", 1, "-n", 48, *args)

    def test_calibrate_writes_temperatures_beside_the_drafter_that_run_then_uses(self):
        svg = os.path.join(self.folder, "diagram.svg")
        done = cli.dspark("calibrate", *self.pair("--json", "--svg", svg, self.prompts))
        self.assertEqual(done.code, 0, done.err)
        result = done.json()
        self.assertEqual(result["written"], os.path.join(self.drafter, "calibration.json"))
        self.assertEqual(len(result["temperatures"]), 7)
        self.assertGreater(result["rounds"], 4)
        self.assertGreater(result["held_out"], 4)
        self.assertEqual(len(result["after"]["slots"]), 7)
        with open(svg, encoding="utf-8") as file:
            self.assertIn("<svg", file.read())
        with open(result["written"], encoding="utf-8") as file:
            kept = json.load(file)
        self.assertEqual([round(t, 5) for t in kept["temperatures"]], [round(t, 5) for t in result["temperatures"]])
        tokens = []
        for drafter in (self.drafter, cli.DRAFTER):
            run = cli.dspark("run", "-m", cli.TARGET, "-d", drafter, "--chat", "-p", cli.QUESTION, "-n", 24, "--json")
            self.assertEqual((run.code, run.err), (0, ""))
            tokens.append(run.json()["tokens"])
        self.assertEqual(tokens[0], tokens[1])

    def test_calibrate_says_what_rounds_cost_and_what_auto_makes_of_it(self):
        done = cli.dspark("calibrate", *self.pair("--dry-run", self.prompts))
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("verify ms", done.out)
        self.assertIn("`auto` will", done.out)
        costs = cli.dspark("calibrate", *self.pair("--dry-run", "--json", self.prompts)).json()["costs"]
        self.assertEqual((len(costs["verify_ms"]), len(costs["draft_ms"])), (8, 7))
        self.assertTrue(all(a <= b for a, b in zip(costs["verify_ms"], costs["verify_ms"][1:])))

    def test_a_shortlist_is_written_and_used_and_changes_no_answer(self):
        ask = ("run", "-m", cli.TARGET, "-d", self.drafter, "--chat", "-p", cli.QUESTION, "-n", 24, "--spec", "fixed:7", "--json")
        before = cli.dspark(*ask)
        done = cli.dspark("calibrate", *self.pair("--json", "--shortlist", 300, self.prompts))
        self.assertEqual(done.code, 0, done.err)
        result = done.json()["shortlist"]
        self.assertEqual(result["written"], os.path.join(self.drafter, "shortlist.json"))
        self.assertEqual(result["sizes"][-1]["tokens"], 4096)
        with open(result["written"], encoding="utf-8") as file:
            kept = json.load(file)["tokens"]
        self.assertEqual((len(kept), len(set(kept))), (300, 300))
        self.assertTrue({4090, 4092} <= set(kept))  # the stop tokens
        after = cli.dspark(*ask)
        self.assertEqual((after.code, after.err), (0, ""))
        self.assertEqual(after.json()["tokens"], before.json()["tokens"])
        for text in ("0", "4096", "some"):
            self.assertEqual(cli.dspark("calibrate", *self.pair("--shortlist", text, self.prompts)).code, 2)

    def test_a_dry_run_writes_nothing(self):
        done = cli.dspark("calibrate", *self.pair("--dry-run", self.prompts))
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("ECE", done.out)
        self.assertNotIn("calibration.json", os.listdir(self.drafter))

    def test_a_calibration_of_another_drafter_is_refused_with_a_message(self):
        with open(os.path.join(self.drafter, "calibration.json"), "w", encoding="utf-8") as file:
            json.dump({"format": "dspark-sts-1", "drafter": "0" * 16, "temperatures": [1] * 7}, file)
        done = cli.dspark("run", "-m", cli.TARGET, "-d", self.drafter, "-p", "Once", "-n", 2)
        self.assertEqual(done.code, 0)
        self.assertIn("another drafter", done.err)

    def test_eval_counts_tokens_rounds_and_acceptance_by_position(self):
        svg = os.path.join(self.folder, "sets.svg")
        done = cli.dspark("eval", *self.pair("--json", "--limit", 2, "--svg", svg, self.prompts))
        self.assertEqual(done.code, 0, done.err)
        (result,) = done.json()["sets"]
        self.assertEqual((result["name"], result["prompts"]), ("sums", 2))
        self.assertGreater(result["tau"], 1)
        self.assertEqual(result["drafted"], result["verified"])
        self.assertEqual(result["drafted"] % 7, 0)
        self.assertEqual(len(result["acceptance"]), 7)
        self.assertTrue(0 < result["acceptance"][0] <= 1)
        self.assertGreater(result["plain_tokens_per_second"], 0)
        self.assertTrue(os.path.getsize(svg) > 500)

    def test_eval_prints_a_row_for_each_set(self):
        other = os.path.join(self.folder, "other.jsonl")
        shutil.copy(self.prompts, other)
        done = cli.dspark("eval", *self.pair("--limit", 1, "--no-speed", "--spec", "auto", self.prompts, other))
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual([line.split()[0] for line in done.out.splitlines()], ["set", "sums", "other"])

    def test_wrong_prompt_files_are_explained_by_line(self):
        for text, part in (("{", "line 1"), ('{"turns": ["a"]}\n{"turns": "b"}\n', "line 2"), ('{"turns": [7]}', "line 1"), ("\n\n", "no prompts")):
            with open(self.prompts, "w", encoding="utf-8") as file:
                file.write(text)
            done = cli.dspark("eval", *self.pair(self.prompts))
            self.assertEqual(done.code, 1)
            self.assertIn(part, done.err)
        done = cli.dspark("calibrate", *self.pair(os.path.join(self.folder, "absent.jsonl")))
        self.assertEqual(done.code, 1)
        self.assertIn("absent.jsonl", done.err)

    def test_without_a_drafter_or_files_the_usage_is_wrong(self):
        for command in ("eval", "calibrate"):
            self.assertEqual(cli.dspark(command, "-m", cli.TARGET, self.prompts).code, 2)
            self.assertEqual(cli.dspark(command, *self.pair()).code, 2)
        self.assertEqual(cli.dspark("eval", *self.pair("--spec", "off", self.prompts)).code, 2)


if __name__ == "__main__":
    cli.main()
