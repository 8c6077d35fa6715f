"""`python -m assistant_queue.cli`: the command where the script is not on the PATH."""

from assistant_queue.cli import main

if __name__ == "__main__":
    main(prog_name="assistant-queue")
