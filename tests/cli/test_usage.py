"""Wrong usage is explained and exits with 2; help is complete; the manual is up to date."""
import os

from cli import DRAFTER, ROOT, TARGET, CliTest, dspark, main

COMMANDS = ["run", "chat", "bench", "tokenize", "inspect", "logits", "devices"]

# arguments, what the message names
WRONG = [
    # unknown things and typing mistakes
    (["run", "--tmep", "1"], ["'--tmep'", "did you mean '--temp'"]),
    (["run", "--thread=2"], ["did you mean '--threads'"]),
    (["run", "--max-token", "2"], ["did you mean '--max-tokens'"]),
    (["run", "--qqqqqqq"], ["unknown option '--qqqqqqq'"]),
    (["run", "-q"], ["unknown option '-q'"]),
    (["devices", "--jsno"], ["did you mean '--json'"]),
    # values
    (["run", "--temp"], ["'--temp' needs a value", "from 0 to"]),
    (["run", "--temp", "warm"], ["'--temp'", "expected a number", "found 'warm'"]),
    (["run", "--temp", "nan"], ["'--temp'", "found 'nan'"]),
    (["run", "--temp", "inf"], ["'--temp'", "found 'inf'"]),
    (["run", "--temp", "1e999"], ["'--temp'", "found '1e999'"]),
    (["run", "--temp", "-0.5"], ["'--temp'", "found '-0.5'"]),
    (["run", "--temp", ""], ["'--temp'", "found ''"]),
    (["run", "--temp", "1x"], ["'--temp'", "found '1x'"]),
    (["run", "--top-p", "1.5"], ["'--top-p'", "from 0 to 1", "found '1.5'"]),
    (["run", "--min-p", "2"], ["'--min-p'", "from 0 to 1"]),
    (["run", "--top-k", "-1"], ["'--top-k'", "whole number", "found '-1'"]),
    (["run", "--top-k", "4294967296"], ["'--top-k'", "found '4294967296'"]),
    (["run", "--seed", "18446744073709551616"], ["'--seed'", "found '18446744073709551616'"]),
    (["run", "--seed", "0x10"], ["'--seed'", "found '0x10'"]),
    (["run", "-n", "-1"], ["'--max-tokens'", "found '-1'"]),
    (["run", "-n", "many"], ["'--max-tokens'", "found 'many'"]),
    (["run", "-n"], ["'--max-tokens' needs a value"]),
    (["run", "--threads", "0"], ["'--threads'", "from 1 to"]),
    (["run", "--ctx", "0"], ["'--ctx'", "from 1 to"]),
    (["run", "--chunk", "1000000"], ["'--chunk'", "found '1000000'"]),
    (["run", "--kv", "f64"], ["'--kv'", "f16, f32", "found 'f64'"]),
    (["run", "--weights", "q4"], ["'--weights'", "file, f32"]),
    (["run", "--log", "loud"], ["'--log'", "warning", "found 'loud'"]),
    (["run", "--memory", "2X"], ["'--memory'", "512M or 2G", "found '2X'"]),
    (["run", "--memory", "99999999999T"], ["'--memory'", "found '99999999999T'"]),
    (["run", "--memory", ""], ["'--memory'", "found ''"]),
    (["run", "--sampling", "greedy"], ["'--sampling'", "expected one of coupled, rejection"]),
    (["run", "--repeat-penalty", "-1"], ["'--repeat-penalty'", "expected a number from 0 to 100"]),
    (["run", "--presence-penalty", "nan"], ["'--presence-penalty'", "expected a number from -100 to 100"]),
    (["run", "--logit-bias", "12"], ["'--logit-bias'", "expected ID:VALUE"]),
    (["run", "--logit-bias", "-1:2"], ["'--logit-bias'", "expected ID:VALUE"]),
    (["run", "--logit-bias", "12:inf"], ["'--logit-bias'", "expected ID:VALUE"]),
    (["run", "--json=yes"], ["'--json' takes no value", "'yes'"]),
    (["run", "--tokens", ""], ["'--tokens'", "divided by commas"]),
    (["run", "--tokens", "1,,2"], ["'--tokens'", "found '1,,2'"]),
    (["run", "--tokens", "1,2,"], ["'--tokens'", "found '1,2,'"]),
    (["run", "--tokens", "1 2"], ["'--tokens'", "found '1 2'"]),
    (["run", "--tokens", "-1"], ["'--tokens'", "found '-1'"]),
    (["run", "--tokens", "2147483648"], ["'--tokens'", "found '2147483648'"]),
    (["run", "--spec", "fast"], ["'--spec'", "auto, off, or fixed:K", "found 'fast'"]),
    (["run", "--spec", "fixed:"], ["'--spec'", "found 'fixed:'"]),
    (["run", "--spec", "fixed:0"], ["'--spec'", "found 'fixed:0'"]),
    (["run", "--spec", "fixed:-1"], ["'--spec'", "found 'fixed:-1'"]),
    (["run", "--spec", "fixed:99999999999"], ["'--spec'"]),
    # what is missing or too much
    (["run"], ["'-m, --model PATH' is missing"]),
    (["run", "-p", "a"], ["'-m, --model PATH' is missing"]),
    (["run", "-m"], ["'--model' needs a value"]),
    (["run", "-m", TARGET], ["a prompt is missing"]),
    (["run", "-m", TARGET, "-p", "a", "-f", "b"], ["found several"]),
    (["run", "-m", TARGET, "-p", "a", "--tokens", "1"], ["found several"]),
    (["run", "-m", TARGET, "--chat", "--tokens", "1"], ["--chat needs a text"]),
    (["run", "-m", TARGET, "-p", "a", "more"], ["unexpected argument 'more'"]),
    (["run", "-m", TARGET, "-p", "a", "--", "-x"], ["unexpected argument '-x'"]),
    (["run", "-m", TARGET, "-p", "a", "--spec", "auto"], ["--spec", "--drafter"]),
    (["run", "-m", TARGET, "-p", "a", "--spec", "fixed:3"], ["--spec", "--drafter"]),
    (["run", "-m", TARGET, "-p", "a", "--draft-device", "cpu"], ["--draft-device", "--drafter"]),
    (["run", "-m", TARGET, "-p", "a", "--draft-top-k", "8"], ["--draft-top-k", "--drafter"]),
    (["run", "--draft-top-k", "-1"], ["'--draft-top-k'", "whole number", "found '-1'"]),
    (["chat"], ["'-m, --model PATH' is missing"]),
    (["chat", "-m", TARGET, "-p", "a"], ["unknown option '-p'"]),
    (["logits", "-m", TARGET, "--tokens", "1"], ["'-o, --output FILE' is missing"]),
    (["logits", "-m", TARGET, "-o", "x"], ["'--tokens IDS' is missing"]),
    (["logits", "-m", TARGET, "--rows", "first"], ["'--rows'", "all, last"]),
    (["tokenize"], ["is missing"]),
    (["inspect"], ["is missing"]),
    (["devices", "cpu"], ["unexpected argument 'cpu'"]),
]


class Usage(CliTest):
    def test_every_wrong_usage_is_named_and_exits_with_2(self):
        for args, says in WRONG:
            with self.subTest(args=args):
                self.expect_usage(*args, says=says)

    def test_no_command_and_unknown_commands_exit_with_2(self):
        self.expect_usage(says="a command is missing")
        self.expect_usage("rnu", says=["unknown command 'rnu'", "did you mean 'run'"])
        self.expect_usage("help", "chta", says=["did you mean 'chat'"])
        self.expect_usage("qqqqqqqqq", says=["unknown command 'qqqqqqqqq'"])

    def test_a_prompt_of_no_tokens_exits_with_2(self):
        self.expect_usage("run", "-m", TARGET, "-p", "", says="the prompt is empty")
        self.expect_usage("run", "-m", TARGET, "-f", "/dev/null", says="the prompt is empty")

    def test_a_token_id_outside_the_vocabulary_is_named_with_its_place(self):
        self.expect_usage("run", "-m", TARGET, "--tokens", "1,4096", says=["4096", "number 2"])
        self.expect_usage("logits", "-m", TARGET, "--tokens", "5000", "-o", "/dev/null", says=["4096", "5000", "number 1"])

    def test_more_drafts_than_the_block_exit_with_2(self):
        self.expect_usage("run", "-m", TARGET, "-d", DRAFTER, "-p", "a", "--spec", "fixed:8", says=["blocks of 7", "from 1 to 7"])

    def test_options_may_be_attached_or_apart_and_the_last_wins(self):
        spellings = [["-n", "3"], ["-n3"], ["--max-tokens", "3"], ["--max-tokens=3"], ["-n", "9", "-n", "3"]]
        for spelling in spellings:
            with self.subTest(spelling=spelling):
                self.assertEqual(len(self.run_json("--tokens", "5,6", "--ignore-eos", *spelling)["tokens"]), 3)


def listed_commands():
    """The commands of the overview, without help."""
    listed = dspark("help").out.split("Commands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in listed.splitlines() if line.split()[0] != "help"]


class Help(CliTest):
    def test_the_overview_lists_every_command(self):
        self.assertLessEqual(set(COMMANDS), set(listed_commands()))
        overview = self.expect(0, "help").out
        for args in (["--help"], ["-h"]):
            self.assertEqual(self.expect(0, *args).out, overview)

    def test_every_command_has_help(self):
        for command in listed_commands():
            for args in [command, "--help"], [command, "-h"], ["help", command]:
                with self.subTest(args=args):
                    result = self.expect(0, *args)
                    self.assertTrue(result.out.startswith("Usage: dspark " + command))
                    self.assertEqual(result.err, "")
                    self.assertNotIn("\033", result.out, "colours only on a terminal")

    def test_help_comes_before_complaints_about_what_is_missing(self):
        self.expect(0, "run", "--json", "-n", "3", "--help")

    def test_help_fits_into_80_columns_apart_from_command_lines(self):
        for command in listed_commands():
            lines = self.expect(0, command, "--help").out.split("Examples:")[0].splitlines()
            self.assertEqual([line for line in lines[1:] if len(line) > 80], [])

    def test_version_is_told(self):
        self.assertRegex(self.expect(0, "--version").out, r"^dspark \d+\.\d+\.\d+\n$")

    def test_the_manual_is_what_the_tables_say(self):
        with open(os.path.join(ROOT, "docs", "cli.md"), encoding="utf-8") as file:
            committed = file.read()
        self.assertEqual(committed, dspark("help", "--markdown").out, "run: dspark help --markdown > docs/cli.md")


if __name__ == "__main__":
    main()
