"""`dspark run`, as its users run it."""
import json
import os
import signal
import tempfile

from cli import DRAFTER, QUESTION, TARGET, TIMEOUT, CliTest, dspark, main, start, start_talking

COUNTS = ["prompt_tokens", "seed", "rounds", "drafted", "verified", "accepted"]
FIELDS = ["text", "tokens", "stop", "tau", "seconds", "device", "draft_device", *COUNTS]
SAMPLED = ["--temp", "0.9", "--top-p", "0.95", "--top-k", "50", "--min-p", "0.01", "--seed", "7"]
CHAT = ["--chat", "-p", QUESTION]
ENDLESS = ["--tokens", "5", "--ignore-eos"]  # thousands of tokens


class Json(CliTest):
    def test_the_object_has_exactly_the_documented_fields_and_types(self):
        for args in [], ["-d", DRAFTER]:
            answer = self.run_json(*CHAT, "-n", "24", *args)
            self.assertEqual(sorted(answer), sorted(FIELDS))
            self.assertIsInstance(answer["text"], str)
            self.assertTrue(all(type(token) is int for token in answer["tokens"]))
            for name in COUNTS:
                self.assertIs(type(answer[name]), int, name)
            self.assertIsInstance(answer["tau"], (int, float))
            self.assertEqual(sorted(answer["seconds"]), ["decode", "draft", "load", "prefill", "verify"])
            self.assertTrue(all(seconds >= 0 for seconds in answer["seconds"].values()))
            self.assertIsInstance(answer["device"], str)
            self.assertIs(type(answer["draft_device"]), str if args else type(None))

    def test_it_is_one_line(self):
        out = self.expect(0, "run", "-m", TARGET, "--tokens", "5,6", "-n", "2", "--json").out
        self.assertEqual(out.count("\n"), 1)
        self.assertTrue(out.endswith("}\n"))

    def test_it_holds_the_text_that_is_printed_without_it(self):
        text = self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "40").out
        self.assertEqual(self.run_json(*CHAT, "-n", "40")["text"], text)

    def test_without_a_drafter_nothing_is_drafted(self):
        answer = self.run_json(*CHAT, "-n", "8")
        self.assertEqual([answer[name] for name in ("drafted", "verified", "accepted")], [0] * 3)
        self.assertLessEqual(answer["tau"], 1)

    def test_the_sums_agree_with_each_other(self):
        answer = self.run_json(*CHAT, "-n", "64", "-d", DRAFTER, "--spec", "fixed:7")
        self.assertEqual(answer["drafted"], 7 * answer["rounds"])
        self.assertLessEqual(answer["accepted"], answer["verified"])
        self.assertLessEqual(answer["verified"], answer["drafted"])
        self.assertGreaterEqual(answer["tau"], 1)
        self.assertLessEqual(answer["tau"], 8)

    def test_any_64_bit_seed_is_told_exactly(self):
        answer = self.run_json("--tokens", "5", "-n", "2", "--temp", "1", "--seed", str(2**64 - 1))
        self.assertEqual(answer["seed"], 2**64 - 1)


class Sameness(CliTest):
    def assert_same(self, base, variants):
        expected = self.run_json(*base)["tokens"]
        self.assertGreater(len(expected), 8)
        for variant in variants:
            with self.subTest(variant=variant):
                self.assertEqual(self.run_json(*base, *variant)["tokens"], expected)

    def test_a_drafter_changes_no_token_of_a_greedy_answer(self):
        modes = ["off", "auto", "fixed:1", "fixed:3", "fixed:7"]
        self.assert_same([*CHAT, "-n", "64"], [["-d", DRAFTER, "--spec", mode] for mode in modes] + [["-d", DRAFTER]])

    def test_a_drafter_changes_no_token_of_a_sampled_answer(self):
        modes = ["off", "auto", "fixed:2", "fixed:7"]
        self.assert_same([*CHAT, "-n", "64", *SAMPLED], [["-d", DRAFTER, "--spec", mode] for mode in modes])

    def test_a_restricted_markov_head_changes_no_token(self):
        for options in ([], SAMPLED):
            self.assert_same([*CHAT, "-n", "48", *options], [["-d", DRAFTER, "--spec", "fixed:7", "--draft-top-k", k] for k in ("0", "1", "16", "9999")])
        for drafter in ("dflash", "eagle3"):
            self.expect(1, "run", "-m", TARGET, "-d", os.path.join(os.path.dirname(DRAFTER), drafter), "-p", "a", "--draft-top-k", "8",
                        says=["draft_top_k is 8", "no sequential (Markov) head"])

    def test_a_target_cut_by_layers_gives_the_tokens_of_one_device(self):
        cut = [["--device", "cpu=6,ref"], ["--device", "ref=1,cpu", "--draft-device", "cpu"]]
        self.assert_same([*CHAT, "-n", "12", "-d", DRAFTER, "--spec", "fixed:3", *SAMPLED], cut)
        self.assertEqual(self.run_json(*CHAT, "-n", "2", "--device", "cpu=6,ref")["device"], "cpu=6,ref=2")
        self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "2", "--device", "cpu=6,ref", "--log", "info", says=["layers: 6 on cpu with embedding and head", "2 on ref"])
        self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "2", "--device", "cpu=14M,ref", "--ctx", "256", says=["warning", "layers: ", "no room for more"])

    def test_threads_chunk_and_context_change_no_token(self):
        variants = [["--threads", "1"], ["--threads", "3"], ["--chunk", "1"], ["--chunk", "7"], ["--ctx", "300"]]
        self.assert_same([*CHAT, "-n", "32", "-d", DRAFTER, *SAMPLED], variants)

    def test_a_drawn_seed_is_told_and_gives_the_answer_again(self):
        first = self.run_json(*CHAT, "-n", "24", "--temp", "1.5")
        again = self.run_json(*CHAT, "-n", "24", "--temp", "1.5", "--seed", first["seed"])
        self.assertEqual(again["tokens"], first["tokens"])
        self.assertNotEqual(self.run_json(*CHAT, "-n", "1", "--temp", "1")["seed"], first["seed"])
        self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "2", "--temp", "1", says="seed: ")


class Stops(CliTest):
    def test_n_counts_tokens_and_the_stop_is_length(self):
        for args in [], ["-d", DRAFTER]:
            for n in 1, 2, 5, 9:
                answer = self.run_json(*CHAT, "--ignore-eos", "-n", n, *args)
                self.assertEqual((len(answer["tokens"]), answer["stop"]), (n, "length"))

    def test_n_0_generates_nothing(self):
        answer = self.run_json(*CHAT, "-n", "0")
        self.assertEqual((answer["tokens"], answer["text"], answer["stop"]), ([], "", "length"))
        self.assertEqual(self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "0").out, "")

    def test_a_stop_token_ends_the_answer_and_is_its_last_token(self):
        for args in [], ["-d", DRAFTER]:
            answer = self.run_json(*CHAT, *args)
            self.assertEqual(answer["stop"], "eos")
            self.assertIn(answer["tokens"][-1], (4090, 4092))
            self.assertFalse({4090, 4092} & set(answer["tokens"][:-1]))
            self.assertNotIn("<|im_end|>", answer["text"])

    def test_ignore_eos_goes_on_past_stop_tokens(self):
        stopped = self.run_json(*CHAT)["tokens"]
        answer = self.run_json(*CHAT, "--ignore-eos", "-n", len(stopped) + 9, "-d", DRAFTER)
        self.assertEqual(answer["tokens"][:len(stopped)], stopped)
        self.assertEqual(len(answer["tokens"]), len(stopped) + 9)

    def test_a_full_context_ends_the_answer(self):
        for args in [], ["-d", DRAFTER]:
            answer = self.run_json("--tokens", "5,6,7", "--ignore-eos", "--ctx", "40", *args)
            self.assertEqual(answer["stop"], "length")
            self.assertIn(len(answer["tokens"]), (37, 38))


class Prompts(CliTest):
    def test_a_file_and_standard_input_are_the_same_prompt_as_the_text(self):
        text = "def area(r):\n    "
        expected = self.run_json("-p", text, "-n", "8")
        with tempfile.NamedTemporaryFile() as file:
            file.write(text.encode())
            file.flush()
            self.assertEqual(self.run_json("-f", file.name, "-n", "8")["tokens"], expected["tokens"])
        result = dspark("run", "-m", TARGET, "--json", "-f", "-", "-n", "8", stdin=text.encode())
        self.assertEqual(result.json()["tokens"], expected["tokens"])

    def test_token_ids_are_the_same_prompt_as_their_text(self):
        ids = json.loads(dspark("tokenize", "-m", TARGET, stdin=b'"Hello there"\n').out)
        by_ids = self.run_json("--tokens", ",".join(map(str, ids)), "-n", "8")
        self.assertEqual(by_ids["tokens"], self.run_json("-p", "Hello there", "-n", "8")["tokens"])
        self.assertEqual(by_ids["prompt_tokens"], len(ids))

    def test_special_tokens_in_a_plain_prompt_are_special_and_in_chat_are_text(self):
        plain = self.run_json("-p", "<|im_start|>", "-n", "0")["prompt_tokens"]
        self.assertEqual(plain, 1)
        with_text = self.run_json("--chat", "-p", "<|im_start|>", "-n", "0")["prompt_tokens"]
        self.assertGreater(with_text, self.run_json("--chat", "-p", "a", "-n", "0")["prompt_tokens"] + 2)

    def test_any_bytes_may_be_a_prompt(self):
        for text in b"\xff\xfe", b"\x00", b"\xf0\x9f\x98", "\u00e9\U0001f600".encode(), b"\r\n\r\n":
            with self.subTest(text=text):
                result = dspark("run", "-m", TARGET, "--json", "-f", "-", "-n", "4", stdin=text)
                self.assertEqual(result.code, 0, result.err)
                result.json()

    def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(self):
        self.expect(1, "run", "-m", TARGET, "--tokens", ",".join(["5"] * 33), "--ctx", "32", says=["33", "32", "--ctx"])

    def test_a_folder_without_tokenizer_works_with_token_ids(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in "config.json", "generation_config.json", "model.safetensors":
                os.symlink(os.path.join(TARGET, name), os.path.join(folder, name))
            answer = self.expect(0, "run", "-m", folder, "--tokens", "5,6,7", "-n", "4", "--json").json()
            self.assertEqual(answer["text"], "")
            self.assertEqual(answer["tokens"], self.run_json("--tokens", "5,6,7", "-n", "4")["tokens"])
            self.expect(1, "run", "-m", folder, "-p", "a", says="tokenizer")


class Failures(CliTest):
    def test_files_that_are_missing_or_wrong_are_named(self):
        self.expect(1, "run", "-m", "/nonexistent/model", "-p", "a", says="/nonexistent/model")
        self.expect(1, "run", "-m", "/dev/null", "-p", "a", says="/dev/null")
        self.expect(1, "run", "-m", TARGET, "-d", "/nonexistent/drafter", "-p", "a", says="/nonexistent/drafter")
        self.expect(1, "run", "-m", TARGET, "-f", "/nonexistent/prompt", says="/nonexistent/prompt: No such file")
        self.expect(1, "run", "-m", TARGET, "-f", "/", says="/: Is a directory")

    def test_a_drafter_that_is_none_and_a_target_that_is_none_are_refused(self):
        self.expect(1, "run", "-m", TARGET, "-d", TARGET, "-p", "a", says=TARGET)
        self.expect(1, "run", "-m", DRAFTER, "-p", "a", says=DRAFTER)

    def test_a_list_of_devices_that_makes_no_sense_says_what_is_expected(self):
        for device, says in (("cpu,", ["a name is missing", "cuda:0=24,cpu"]), ("cpu=9,ref", ["9 layers", "the model has 8"]), ("cpu,cpu", ["named twice"]),
                             ("cpu=1,abacus", ["abacus", "cpu"]), ("cpu=1M", ["device 'cpu'", "a second device named behind it"])):
            self.expect(1, "run", "-m", TARGET, "-p", "a", "--device", device, says=says)

    def test_a_device_that_does_not_exist_is_answered_with_those_that_do(self):
        self.expect(1, "run", "-m", TARGET, "-p", "a", "--device", "abacus", says=["abacus", "cpu"])
        self.expect(1, "run", "-m", TARGET, "-d", DRAFTER, "-p", "a", "--draft-device", "abacus", says=["abacus", "cpu"])

    def test_a_budget_that_is_too_small_is_refused_with_the_numbers(self):
        self.expect(1, "run", "-m", TARGET, "-p", "a", "--memory", "1M", says="budget")

    def test_a_trace_that_cannot_be_written_fails_before_anything_else(self):
        self.expect(1, "run", "-m", "/nonexistent", "-p", "a", "--trace", "/nonexistent/trace", says="--trace: cannot write /nonexistent/trace")

    def test_failures_print_nothing_on_standard_output(self):
        self.assertEqual(dspark("run", "-m", "/nonexistent", "-p", "a", "--json").out, "")


class Trace(CliTest):
    def test_there_is_one_documented_line_a_round_and_they_add_up(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace")
            answer = self.run_json(*CHAT, "-n", "48", "--ignore-eos", "-d", DRAFTER, "--spec", "fixed:7", "--trace", path)
            with open(path, encoding="utf-8") as file:
                rounds = [json.loads(line) for line in file]
        self.assertEqual(len(rounds), answer["rounds"])
        self.assertEqual(sum(r["accepted"] for r in rounds), answer["accepted"])
        self.assertEqual(sum(r["verified"] for r in rounds), answer["verified"])
        self.assertEqual(rounds[0]["pos"], answer["prompt_tokens"])
        self.assertEqual(rounds[0]["anchor"], answer["tokens"][0])
        sequence = [answer["tokens"][0]]
        for r in rounds:
            self.assertEqual(list(r), ["pos", "anchor", "draft", "confidence", "verified", "accepted", "next"])
            self.assertEqual((len(r["draft"]), len(r["confidence"])), (7, 7))
            self.assertTrue(all(0 <= c <= 1 for c in r["confidence"]))
            self.assertEqual(r["pos"], answer["prompt_tokens"] + len(sequence) - 1)
            self.assertEqual(r["anchor"], sequence[-1])
            sequence += r["draft"][:r["accepted"]] + [r["next"]]
        self.assertEqual(sequence[:48], answer["tokens"])

    def test_a_full_disk_is_told_and_exits_with_1(self):
        self.expect(1, "run", "-m", TARGET, *CHAT, "-n", "8", "-d", DRAFTER, "--trace", "/dev/full", says="/dev/full is incomplete")


class Streams(CliTest):
    def test_statistics_and_messages_go_to_standard_error(self):
        plain = dspark("run", "-m", TARGET, *CHAT, "-n", "8", "-d", DRAFTER)
        told = self.expect(0, "run", "-m", TARGET, *CHAT, "-n", "8", "-d", DRAFTER, "--stats", says=["tokens/s", "tokens a round", "MiB"])
        self.assertEqual(told.out, plain.out)
        self.assertEqual(plain.err, "")

    def test_text_comes_while_it_is_generated_and_a_closed_pipe_exits_with_1_in_silence(self):
        process, out = start_talking("run", "-m", TARGET, *ENDLESS)
        self.assertEqual(len(out.read(1)), 1)
        self.assertIsNone(process.poll(), "it ended before its text was read")
        out.close()
        self.assertEqual(process.stderr.read(), b"")
        self.assertEqual(process.wait(TIMEOUT), 1)
        process.stderr.close()

    def test_a_full_disk_exits_with_1_and_says_so_once(self):
        for args in [], ["--json"]:
            with open("/dev/full", "wb") as full:
                process = start("run", "-m", TARGET, *CHAT, "-n", "64", *args, stdout=full)
                err = process.communicate(timeout=TIMEOUT)[1].decode()
            self.assertEqual(process.returncode, 1)
            self.assertEqual(err, "dspark: No space left on device\n")

    def test_ctrl_c_ends_the_answer_cleanly_with_130(self):
        def allow():  # a parent may have it ignored
            signal.signal(signal.SIGINT, signal.default_int_handler)

        process, out = start_talking("run", "-m", TARGET, *ENDLESS, "--stats", preexec_fn=allow)
        text = out.read(1)  # it generates
        process.send_signal(signal.SIGINT)
        while piece := out.read(4096):
            text += piece
        out.close()
        err = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(TIMEOUT), 130, err)
        text.decode("utf-8")
        self.assertIn(b"ended by stop", err)


if __name__ == "__main__":
    main()
