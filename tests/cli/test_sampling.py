"""How `dspark run` draws and where it stops, beyond temperature and filters: stop strings, log-probabilities, penalties, biases, rejection."""
import math

from cli import DRAFTER, TARGET, CliTest, main

PROMPT = ["-p", "Tom has 5 apples"]
LONG = ["--ignore-eos", "-n", "48"]
DRAFTED = ["-d", DRAFTER, "--spec", "fixed:7"]


class Stops(CliTest):
    def test_an_answer_ends_in_front_of_the_first_stop_string(self):
        whole = self.run_json(*PROMPT, *LONG)["text"]
        words = whole.split()
        stop, other = f"{words[2]} {words[3]}", words[5]
        for more in [], DRAFTED:
            for stops in ["--stop", stop], ["--stop", other, "--stop", stop], ["--stop", "@@@", "--stop", stop]:
                answer = self.run_json(*PROMPT, *LONG, *stops, *more)
                self.assertEqual(answer["stop"], "stop")
                self.assertEqual(answer["text"], whole[: whole.index(stop)])

    def test_what_is_printed_is_cut_alike(self):
        whole = self.run_json(*PROMPT, *LONG)["text"]
        stop = whole.split()[3]
        self.assertEqual(self.expect(0, "run", "-m", TARGET, *PROMPT, *LONG, "--stop", stop).out, whole[: whole.index(stop)])

    def test_one_that_does_not_come_changes_nothing(self):
        plain, listening = (self.run_json(*PROMPT, *LONG, *more) for more in ([], ["--stop", "@@@"]))
        for name in "text", "tokens", "stop":
            self.assertEqual(listening[name], plain[name])


class Logprobs(CliTest):
    def test_each_token_has_its_own_and_the_likeliest_beside_it(self):
        answer = self.run_json(*PROMPT, "-n", "12", "--logprobs", "3")
        self.assertEqual([row["token"] for row in answer["logprobs"]], answer["tokens"])
        for row in answer["logprobs"]:
            top = row["top"]
            self.assertEqual(len(top), 3)
            self.assertEqual(top[0], {"token": row["token"], "logprob": row["logprob"]})  # greedy
            self.assertEqual(sorted((one["logprob"] for one in top), reverse=True), [one["logprob"] for one in top])
            self.assertLessEqual(sum(math.exp(one["logprob"]) for one in top), 1 + 1e-5)

    def test_they_are_the_same_with_a_drafter(self):
        sampled = [*PROMPT, *LONG, "--temp", "0.8", "--seed", "5", "--logprobs", "2"]
        self.assertEqual(self.run_json(*sampled, *DRAFTED)["logprobs"], self.run_json(*sampled)["logprobs"])

    def test_they_need_the_object(self):
        self.expect_usage("run", "-m", TARGET, *PROMPT, "--logprobs", "2", says="--json")


class Shaping(CliTest):
    PENALTIES = ["--repeat-penalty", "1.3", "--presence-penalty", "0.5", "--frequency-penalty", "0.2", "--penalty-window", "32"]

    def test_penalties_change_the_answer_and_a_drafter_does_not(self):
        for temperature in ["--temp", "0"], ["--temp", "0.8", "--seed", "3"]:
            base = [*PROMPT, *LONG, *temperature]
            penalised = self.run_json(*base, *self.PENALTIES)["tokens"]
            self.assertNotEqual(penalised, self.run_json(*base)["tokens"])
            self.assertEqual(self.run_json(*base, *self.PENALTIES, *DRAFTED)["tokens"], penalised)

    def test_a_bias_forbids_a_token_or_forces_it(self):
        base = [*PROMPT, *LONG, *DRAFTED]
        first = self.run_json(*base)["tokens"][0]
        self.assertNotIn(first, self.run_json(*base, "--logit-bias", f"{first}:-1000")["tokens"])
        self.assertEqual(set(self.run_json(*base, "--logit-bias", "77:1000")["tokens"]), {77})

    def test_an_id_that_the_model_does_not_have_is_told(self):
        self.expect(1, "run", "-m", TARGET, *PROMPT, "--logit-bias", "4096:1", says="the vocabulary has ids 0 to 4095")


class Rejection(CliTest):
    BASE = [*PROMPT, *LONG, "--temp", "0.9", "--seed", "11", *DRAFTED, "--sampling", "rejection"]

    def test_it_repeats_itself_and_accepts_drafts(self):
        one, two = self.run_json(*self.BASE), self.run_json(*self.BASE, "--threads", "1")
        self.assertEqual(one["tokens"], two["tokens"])
        self.assertEqual(len(one["tokens"]), 48)
        self.assertGreater(one["accepted"], 0)

    def test_the_place_of_the_drafter_does_not_matter(self):
        here = self.run_json(*self.BASE, "-n", "16")["tokens"]
        self.assertEqual(self.run_json(*self.BASE, "-n", "16", "--draft-device", "ref")["tokens"], here)

    def test_at_temperature_0_it_is_greedy(self):
        greedy = self.run_json(*PROMPT, *LONG)["tokens"]
        self.assertEqual(self.run_json(*PROMPT, *LONG, *DRAFTED, "--sampling", "rejection")["tokens"], greedy)


if __name__ == "__main__":
    main()
