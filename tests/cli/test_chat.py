"""`dspark chat`, through pipes and on a terminal."""
import json
import os
import pty
import subprocess

from cli import DRAFTER, PROGRAM, QUESTION, TARGET, TIMEOUT, CliTest, dspark, main

CHAT = ["chat", "-m", TARGET, "-n", "12"]


def lines(*texts):
    return "".join(text + "\n" for text in texts).encode()


class Pipes(CliTest):
    def test_an_answer_is_what_run_gives_for_the_same_turn(self):
        answer = self.expect(0, *CHAT, stdin=lines(QUESTION))
        run = self.expect(0, "run", "-m", TARGET, "--chat", "-p", QUESTION, "-n", "12")
        self.assertEqual(answer.out, run.out + "\n")
        self.assertEqual(answer.err, "")

    def test_a_drafter_changes_no_answer_of_a_conversation(self):
        talk = lines("Hello", "And again", "Why?")
        self.assertEqual(dspark(*CHAT, "-d", DRAFTER, stdin=talk).out, self.expect(0, *CHAT, stdin=talk).out)

    def test_the_second_answer_depends_on_the_first_turn_and_clear_forgets_it(self):
        alone = self.expect(0, *CHAT, stdin=lines("Why?")).out
        after = self.expect(0, *CHAT, stdin=lines(QUESTION, "/clear", "Why?")).out
        self.assertTrue(after.endswith(alone))

    def test_a_template_can_be_named_and_an_unknown_one_is_refused(self):
        chosen = self.expect(0, "run", "-m", TARGET, "--chat", "-p", QUESTION, "-n", "12", "--json", "--template", "qwen2").json()
        own = self.expect(0, "run", "-m", TARGET, "--chat", "-p", QUESTION, "-n", "12", "--json").json()
        self.assertGreater(chosen["prompt_tokens"], own["prompt_tokens"])  # it has a system message
        self.expect(1, *CHAT, "--template", "nonsense", says=["'nonsense'", "chatml", "gemma4-think"])
        self.expect(1, "run", "-m", TARGET, "--chat", "-p", "x", "--template", "gemma3", says=["gemma3", "needs the token"])

    def test_every_template_is_in_the_manual(self):
        listed = self.expect(1, *CHAT, "--template", "nonsense").err.split("expected one of ")[1].strip()
        manual = " ".join(dspark("help", "run").out.split())
        for name in listed.split(", "):
            self.assertIn(name, manual)

    def test_a_system_message_survives_clear(self):
        system = ["--system", "Explain the Python topic"]
        first = self.expect(0, *CHAT, *system, stdin=lines("Why?")).out
        self.assertEqual(self.expect(0, *CHAT, *system, stdin=lines("Hello", "/clear", "Why?")).out.count(first), 1)

    def test_exit_and_the_end_of_input_leave(self):
        self.assertEqual(self.expect(0, *CHAT, stdin=b"").out, "")
        self.assertEqual(self.expect(0, *CHAT, stdin=lines("/exit", "Hello")).out, "")

    def test_an_unknown_command_is_not_sent_to_the_model(self):
        self.assertEqual(self.expect(0, *CHAT, stdin=lines("/quit"), says="unknown command /quit").out, "")

    def test_a_last_line_without_newline_is_answered(self):
        self.assertEqual(dspark(*CHAT, stdin=b"Hello").out, self.expect(0, *CHAT, stdin=b"Hello\n").out)

    def test_a_conversation_beyond_the_context_is_explained_and_goes_on(self):
        result = self.expect(0, *CHAT, "--ctx", "64", stdin=lines("word " * 100, "Hi"), says="/clear")
        self.assertTrue(result.out.strip())


class Terminal(CliTest):
    def test_the_prompt_and_the_hint_are_on_standard_error_alone(self):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([PROGRAM, *CHAT], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
        os.close(theirs)
        os.write(ours, b"Hello\n\x04")
        out = process.communicate(timeout=TIMEOUT)[0].decode()
        self.assertEqual(process.returncode, 0)
        self.assertEqual(out, dspark(*CHAT, stdin=b"Hello\n").out)
        shown = os.read(ours, 65536)
        self.assertIn(b"> ", shown)
        os.close(ours)


if __name__ == "__main__":
    main()
