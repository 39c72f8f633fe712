"""`dspark calibrate` and `dspark eval`: what they print, what they write, and what they refuse."""
import json
import math
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

    def link(self, name, like):
        """A drafter that files can be laid beside."""
        folder = os.path.join(self.folder, name)
        os.mkdir(folder)
        for file in ("config.json", "model.safetensors"):
            os.symlink(os.path.join(cli.ROOT, "models", "tiny", like, file), os.path.join(folder, file))
        return folder

    def test_of_drafters_without_a_confidence_head_their_own_probability_is_judged_and_no_calibration_written(self):
        for name in "dflash", "eagle3":
            with self.subTest(name):
                drafter = self.link(name, name)
                ask = ("-m", cli.TARGET, "-d", drafter, "--threads", 1, "-n", 24, self.prompts)
                table = cli.dspark("calibrate", *ask, "--dry-run")
                self.assertEqual(table.code, 0, table.err)
                for part in "ECE before", "the probability that the drafter gives its own drafts", "verify ms", "`auto` will", "No temperatures are written":
                    self.assertIn(part, table.out)
                svg = os.path.join(self.folder, name + ".svg")
                done = cli.dspark("calibrate", *ask, "--json", "--svg", svg)
                self.assertEqual(done.code, 0, done.err)
                result = done.json()
                self.assertEqual((result["confidences"], len(result["temperatures"]), len(result["after"]["slots"]), len(result["accepted"])), ("probability", 7, 7, 7))
                self.assertTrue(1 >= result["accepted"][0] >= result["accepted"][1] >= 0)
                self.assertGreater(result["before"]["auc"], 0.6)
                with open(svg, encoding="utf-8") as file:
                    self.assertIn("<circle", file.read())
                self.assertIsNone(result["written"])
                self.assertEqual(sorted(os.listdir(drafter)), ["config.json", "model.safetensors"])

    def test_what_is_said_of_confidences_says_where_they_come_from(self):
        for name, source, word in (("dspark", "the drafter's confidence head", "head"),
                                   ("dflash", "the probability that the drafter gives its own drafts", "probability"),
                                   ("eagle3", "the probability that the drafter gives its own drafts", "probability")):
            ask = ("-m", cli.TARGET, "-d", os.path.join(cli.ROOT, "models", "tiny", name), "--threads", 1, "-n", 32, "--no-speed", "--limit", 2, self.prompts)
            table = cli.dspark("eval", *ask)
            self.assertEqual(table.code, 0, table.err)
            self.assertIn(source, table.out)
            result = cli.dspark("eval", *ask, "--json").json()
            self.assertEqual(result["confidences"], word)
            (one,) = result["sets"]
            self.assertTrue(0 < one["ece"] < 1 and 0.5 < one["auc"] <= 1, one)

    def test_one_prompt_is_too_few_and_a_place_that_cannot_be_written_is_told_first(self):
        one = os.path.join(self.folder, "one.jsonl")
        with open(one, "w", encoding="utf-8") as file:
            file.write(json.dumps(PROMPTS[0]) + "\n")
        done = cli.dspark("calibrate", *self.pair("--dry-run", one))
        self.assertEqual(done.code, 1)
        self.assertIn("every other prompt of a file is held out", done.err)
        for command in "calibrate", "eval":
            done = cli.dspark(command, "-m", "/nonexistent/model", "-d", self.drafter, "--svg", "/nonexistent/x.svg", one)
            self.assertEqual(done.code, 1)
            self.assertIn("--svg: cannot write /nonexistent/x.svg", done.err)

    def test_what_is_kept_of_answers_is_temperatures_and_a_count(self):
        before = os.listdir(self.drafter)
        self.assertEqual(cli.dspark("run", "-m", cli.TARGET, "-d", self.drafter, "--chat", "-p", cli.QUESTION, "-n", 24).code, 0)
        self.assertEqual(cli.dspark("eval", *self.pair("--no-speed", "--limit", 1, self.prompts)).code, 0)
        self.assertEqual(os.listdir(self.drafter), before)  # nothing is recorded unless asked for
        written = cli.dspark("calibrate", *self.pair("--json", self.prompts)).json()["written"]
        self.assertEqual(sorted(set(os.listdir(self.drafter)) - set(before)), ["calibration.json"])
        with open(written, encoding="utf-8") as file:
            kept = json.load(file)
        self.assertEqual(sorted(kept), ["drafter", "format", "rounds", "temperatures"])

    def test_a_dry_run_writes_nothing(self):
        done = cli.dspark("calibrate", *self.pair("--dry-run", self.prompts))
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("ECE", done.out)
        self.assertNotIn("calibration.json", os.listdir(self.drafter))

    def record(self, *args, question=cli.QUESTION, drafter=None):
        file = os.path.join(self.folder, "use.jsonl")
        done = cli.dspark("run", "-m", cli.TARGET, "-d", drafter or self.drafter, "--threads", 1, "--chat", "-p", question, "-n", 32, "--ignore-eos",
                          "--spec", "fixed:7", "--record", file, "--json", *args)
        return file, done

    def test_what_run_and_chat_record_is_what_calibrate_fits_to(self):
        plain = cli.dspark("run", "-m", cli.TARGET, "--chat", "-p", cli.QUESTION, "-n", 32, "--ignore-eos", "--json").json()["tokens"]
        file, done = self.record("--trace", os.path.join(self.folder, "trace.jsonl"))
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(done.json()["tokens"], plain)
        self.record(question="Count to nine.")
        chat = cli.dspark("chat", "-m", cli.TARGET, "-d", self.drafter, "--spec", "fixed:7", "-n", 16, "--record", file, stdin=b"Hello\nAnd again\n")
        self.assertEqual(chat.code, 0, chat.err)
        with open(file, encoding="utf-8") as text, open(os.path.join(self.folder, "trace.jsonl"), encoding="utf-8") as trace:
            lines = [json.loads(line) for line in text]
            rounds = [json.loads(line) for line in trace]
        self.assertEqual(len(lines), 3)
        self.assertEqual([set(line) for line in lines], [{"format", "drafter", "rounds"}] * 3)
        self.assertEqual([one[:2] for one in lines[0]["rounds"]], [[one["verified"], one["accepted"]] for one in rounds if one["verified"]])
        for logits, confidence in zip((one[2:] for one in lines[0]["rounds"]), (one["confidence"] for one in rounds if one["verified"])):
            for a, b in zip(logits, confidence, strict=True):
                self.assertAlmostEqual(1 / (1 + math.exp(-a)), b, places=5)
        fitted = cli.dspark("calibrate", *self.pair("--json", "--recorded", file))
        self.assertEqual(fitted.code, 0, fitted.err)
        result = fitted.json()
        self.assertEqual(result["rounds"], len(lines[0]["rounds"]) + len(lines[2]["rounds"]))
        self.assertEqual(result["held_out"], len(lines[1]["rounds"]))
        self.assertEqual(result["written"], os.path.join(self.drafter, "calibration.json"))
        whole = [one for one in lines[1]["rounds"]]
        self.assertAlmostEqual(result["accepted"][0], sum(one[1] >= 1 for one in whole) / len(whole), places=9)
        table = cli.dspark("calibrate", *self.pair("--dry-run", "--recorded", file, self.prompts))
        self.assertEqual(table.code, 0, table.err)
        self.assertIn("ECE before", table.out)

    def test_what_is_no_record_of_this_drafter_is_refused_with_its_line(self):
        file, done = self.record()
        self.assertEqual(done.code, 0, done.err)
        with open(file, encoding="utf-8") as text:
            good = text.read()
        line = json.loads(good)
        wrong = [("{", "line 2"), ("[]", "dspark-outcomes-1"), (json.dumps(dict(line, drafter="0123456789abcdef")), "another drafter"),
                 (json.dumps(dict(line, rounds=[[1, 2, 0.5]])), "round 1"), (json.dumps(dict(line, rounds=[[1, 1, 0.5], [1, 1]])), "round 2"),
                 (json.dumps(dict(line, rounds=[[9, 1] + [0.5] * 9])), "1 to 7 numbers"), (json.dumps(dict(line, rounds=[[1, 1, "x"]])), "round 1"),
                 (json.dumps(dict(line, rounds=[[1, 1, 1e300]])), "round 1"), (json.dumps(dict(line, rounds=[[1, -1, 1]])), "round 1")]
        for text, part in wrong:
            with open(file, "w", encoding="utf-8") as out:
                out.write(good + text + "\n")
            refused = cli.dspark("calibrate", *self.pair("--recorded", file))
            self.assertEqual(refused.code, 1, text)
            self.assertIn(part, refused.err)
            self.assertIn(file, refused.err)
        self.assertNotIn("calibration.json", os.listdir(self.drafter))

    def test_recording_that_cannot_be_is_refused_before_the_answer(self):
        for args, part in ((("--record", os.path.join(self.folder, "none", "use.jsonl")), "cannot write"),):
            done = cli.dspark("run", "-m", cli.TARGET, "-d", self.drafter, "-p", "A", "-n", 4, *args)
            self.assertEqual((done.code, done.out), (1, ""))
            self.assertIn(part, done.err)
        done = cli.dspark("run", "-m", cli.TARGET, "-p", "A", "-n", 4, "--record", os.path.join(self.folder, "use.jsonl"))
        self.assertEqual((done.code, done.out), (1, ""))
        self.assertIn("there is no drafter", done.err)
        one, done = self.record()
        self.assertEqual(done.code, 0, done.err)
        refused = cli.dspark("calibrate", *self.pair("--recorded", one))
        self.assertEqual(refused.code, 1)
        self.assertIn("and 0 held out", refused.err)
        self.assertEqual(cli.dspark("calibrate", *self.pair()).code, 2)
        self.assertEqual(cli.dspark("calibrate", *self.pair("--recorded", "x", "--shortlist", 9)).code, 2)

    def test_what_a_drafter_without_a_head_records_is_its_confidences_and_what_calibrate_judges(self):
        for name in "dflash", "eagle3":
            with self.subTest(name):
                drafter, trace = self.link(name, name), os.path.join(self.folder, "trace.jsonl")
                file, done = self.record("--trace", trace, drafter=drafter)
                self.assertEqual((done.code, done.err), (0, ""))
                self.record(question="Count to nine.", drafter=drafter)
                with open(file, encoding="utf-8") as text, open(trace, encoding="utf-8") as rounds:
                    lines = [json.loads(line) for line in text]
                    rounds = [one for one in map(json.loads, rounds) if one["verified"]]
                self.assertEqual([one[:2] for one in lines[0]["rounds"]], [[one["verified"], one["accepted"]] for one in rounds])
                for logits, confidence in zip((one[2:] for one in lines[0]["rounds"]), (one["confidence"] for one in rounds), strict=True):
                    for a, b in zip(logits, confidence, strict=True):
                        self.assertAlmostEqual(1 / (1 + math.exp(-a)), b, places=5)
                fitted = cli.dspark("calibrate", "-m", cli.TARGET, "-d", drafter, "--json", "--recorded", file)
                self.assertEqual(fitted.code, 0, fitted.err)
                self.assertIsNone(fitted.json()["written"])
                self.assertEqual((fitted.json()["rounds"], fitted.json()["held_out"]), tuple(len(line["rounds"]) for line in lines))
                os.remove(file)

    def test_a_drafter_cannot_change_where_its_confidences_come_from_under_one_fingerprint(self):
        """A fingerprint is of tensors; a configuration that leaves a head out whose tensors are there is refused."""
        headless = self.link("headless", "dspark")
        with open(os.path.join(headless, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        os.remove(os.path.join(headless, "config.json"))
        with open(os.path.join(headless, "config.json"), "w", encoding="utf-8") as file:
            json.dump(dict(config, enable_confidence_head=False), file)
        done = cli.dspark("run", "-m", cli.TARGET, "-d", headless, "--threads", 1, "-p", "Once", "-n", 2)
        self.assertEqual(done.code, 1)
        self.assertIn("'confidence_head.proj.bias' is not part of", done.err)

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

    def test_the_table_of_the_reference_implementation_has_its_columns_and_counts(self):
        ask = self.pair("--limit", 2, "--no-speed", self.prompts)
        done = cli.dspark("eval", *ask, "--deepspec")
        self.assertEqual(done.code, 0, done.err)
        names, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|"))
        self.assertEqual(names, ["dataset", "target_model", "draft_model", "#propose", "accept_len", "verify_rate", "samples", "out_tokens", "tok/s", "verify/s"]
                         + [f"accept_rate@{k}" for k in range(7)])
        (same,) = cli.dspark("eval", *ask, "--json").json()["sets"]
        self.assertEqual(row[:3] + row[6:8], ["sums", "target", "drafter", "2", str(same["tokens"])])
        self.assertAlmostEqual(float(row[4]), same["tau"], delta=0.006)
        proposed = float(row[3].removesuffix("+1"))
        self.assertTrue(4 < proposed <= 7)
        self.assertAlmostEqual(float(row[5]), same["tau"] / (proposed + 1), delta=0.002)
        rates = [float(cell) for cell in row[10:]]
        self.assertAlmostEqual(rates[0], same["acceptance"][0], delta=0.0001)
        self.assertTrue(all(a >= b - 0.05 for a, b in zip(rates, rates[1:])))  # of all rounds, not of those that came so far
        self.assertEqual(cli.dspark("eval", *ask, "--deepspec", "--json").code, 2)

    def test_a_conversation_that_has_no_room_is_told(self):
        long = os.path.join(self.folder, "long.jsonl")
        with open(long, "w", encoding="utf-8") as file:
            file.write(json.dumps({"turns": ["word " * 300]}) + "\n" + json.dumps(PROMPTS[0]) + "\n")
        done = cli.dspark("eval", *self.pair("--no-speed", "--ctx", 200, long))
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("1 conversation(s) do not fit into the context of 200 positions", done.err)

    def test_eval_prints_a_row_for_each_set(self):
        other = os.path.join(self.folder, "other.jsonl")
        shutil.copy(self.prompts, other)
        done = cli.dspark("eval", *self.pair("--limit", 1, "--no-speed", "--spec", "auto", self.prompts, other))
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual([line.split()[0] for line in done.out.splitlines()[:4] if line], ["set", "sums", "other"])

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
