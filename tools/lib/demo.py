"""The second half of tools/demo: asks the tiny model some questions with and without its drafter and compares."""
import json
import subprocess
import sys
import textwrap

QUESTIONS = [
    "Janet has 3 boxes with 12 apples each. She gives 7 apples to a friend. How many apples does she have left?",
    "A train travels 60 miles an hour for 3 hours and then 40 miles an hour for 2 hours. How far does it go?",
    "Tom reads 20 pages a day. His book has 340 pages. How many days does he need?",
    "A shirt costs $25 and trousers cost twice as much. How much do two shirts and one pair of trousers cost?",
]


def ask(program, models, question, drafter):
    command = [program, "run", "-m", f"{models}/target", "--chat", "-p", question, "-n", "192", "--json"]
    if drafter:
        command += ["-d", f"{models}/dspark"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with exit status {done.returncode}")
    return json.loads(done.stdout)


def speed(answers):
    """Tokens a second after the prompt, over all answers."""
    seconds = sum(answer["seconds"]["decode"] for answer in answers)
    return sum(len(answer["tokens"]) for answer in answers) / seconds if seconds else 0.0


def main():
    program, models = sys.argv[1:]
    print("\n== A question to the tiny model. It is 7 million parameters small: read its fluency, not its arithmetic\n")
    print(textwrap.fill("Q: " + QUESTIONS[0], 100))
    plain = [ask(program, models, question, False) for question in QUESTIONS]
    drafted = [ask(program, models, question, True) for question in QUESTIONS]
    print("A: " + plain[0]["text"].strip())

    print(f"\n== The same {len(QUESTIONS)} questions, at temperature 0\n")
    rounds = sum(answer["rounds"] for answer in drafted)
    # every round commits its accepted drafts and one token of the target's own
    accepted = sum(answer["tau"] * answer["rounds"] for answer in drafted) / rounds
    tokens = sum(len(answer["tokens"]) for answer in plain)
    passes = tokens - len(plain)  # the first token of an answer comes with the prompt
    print(f"{'':<18}{'tokens':>8}{'passes of the target':>23}{'tokens a pass':>16}{'tokens/s':>11}")
    print(f"{'without drafter':<18}{tokens:>8}{passes:>23}{1.0:>16.2f}{speed(plain):>11.0f}")
    print(f"{'with drafter':<18}{sum(len(a['tokens']) for a in drafted):>8}{rounds:>23}{accepted:>16.2f}{speed(drafted):>11.0f}")

    same = all(a["tokens"] == b["tokens"] and a["text"] == b["text"] for a, b in zip(plain, drafted))
    print("\nThe answers are the same, token for token." if same else "\nTHE ANSWERS DIFFER: this is a bug, please report it.")
    print(f"\nTry it: {program} chat -m {models}/target -d {models}/dspark")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
