"""Three short messages, one run, one reply.

python examples/basic.py                                  # no key, no Redis, no account needed
OPENAI_API_KEY=... python examples/basic.py --model NAME  # the real service
"""

from __future__ import annotations

from surroundings import surroundings

from assistant_queue import AssistantMessageQueue


def main() -> None:
    with (
        surroundings(__doc__) as options,
        AssistantMessageQueue(**options, message_delay=1.0) as queue,
    ):
        queue.start_worker()  # in production: `assistant-queue worker` in other processes

        said = ["Hi!", "I want to bake a cake", "but I have no eggs"]
        receipts = [queue.add_message_to_thread("kitchen", text, author="Mia") for text in said]
        for text, receipt in zip(said, receipts, strict=True):
            print(f"Mia: {text}    (due at {receipt.due_at:%H:%M:%S} UTC)")

        print(f"Bot: {queue.wait_for_reply(receipts[0].message_id, timeout=120)}")

        runs = {queue.get_message(receipt.message_id).run_id for receipt in receipts}
        print(f"\n{len(receipts)} messages, {len(runs)} run")

        reply = queue.ask("kitchen", "Thank you!", author="Mia", timeout=120)
        print(f"\nMia: Thank you!\nBot: {reply}")


if __name__ == "__main__":
    main()
