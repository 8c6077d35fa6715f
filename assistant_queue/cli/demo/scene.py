"""The scenes: the built-in one, and one made of the user's own messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.model import DemoModel, Says


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Messages, model and faults of a demo.

    Attributes:
        lines: The messages, in the order of their times.
        stories: For a thread: what to watch in it.
        script: What the model says.
        refused: The provider refuses the first request that holds one of these texts (429, as when
            too many come at once).
        refuses_nth: The provider refuses these starts of runs, counted from 1.
        fails_every: Each nth turn fails once.
    """

    title: str
    lines: tuple[Line, ...]
    stories: Mapping[str, str] = field(default_factory=dict)
    script: tuple[Says, ...] = ()
    refused: tuple[str, ...] = ()
    refuses_nth: tuple[int, ...] = ()
    fails_every: int | None = None

    @property
    def threads(self) -> tuple[str, ...]:
        """Thread ids, in the order of their first message."""
        return tuple(dict.fromkeys(line.thread for line in self.lines))

    def model(self) -> DemoModel:
        """Return a model that follows the script from its beginning."""
        return DemoModel(self.script, self.fails_every)


def own_scene(name: str, lines: Sequence[Line]) -> Scene:
    """Return a scene of the user's own messages, with some faults of the provider."""
    return Scene(title=name, lines=tuple(lines), refuses_nth=(5, 17, 40), fails_every=11)


@dataclass(frozen=True, slots=True)
class _Part:
    """One thread of the scene: authors, texts and times.

    A line is (seconds, text) or (seconds, author, text).
    """

    thread: str
    story: str
    said: tuple[tuple[float, str] | tuple[float, str, str], ...]

    def lines(self) -> list[Line]:
        """As lines."""
        return [
            Line(
                at=entry[0],
                thread=self.thread,
                text=entry[-1],
                author=entry[1] if len(entry) == 3 else None,  # noqa: PLR2004
            )
            for entry in self.said
        ]


_PARTS = (
    _Part(
        "mia",
        "a burst, and a tool call",
        (
            (0.2, "Hi!"),
            (0.7, "I ordered a lamp last week"),
            (1.1, "the order is #4711"),
            (1.4, "where is it? 🙈"),
            (7.6, "Perfect, thank you!"),
        ),
    ),
    _Part(
        "football-parents",
        "three people, one answer",
        (
            (0.4, "Tom", "Who drives on Saturday?"),
            (0.9, "Léa", "I can take four 🚗"),
            (1.3, "Raj", "We are away, sorry"),
            (1.7, "Tom", "Bot, please make a list"),
            (5.6, "Raj", "Wait, Anna can go with Léa?"),
            (6.2, "Léa", "Sure, that makes five"),
        ),
    ),
    _Part(
        "grandma",
        "a slow run, interrupted",
        (
            (0.6, "Please write a birthday poem for Emil"),
            (3.4, "He turns seven"),
            (4.1, "and he loves dinosaurs 🦕"),
            (4.9, "not too long please"),
        ),
    ),
    _Part(
        "ben",
        "refused at first (429)",
        ((1.0, "Are you open on Sunday?"), (1.6, "and is there parking")),
    ),
    _Part(
        "yuki",
        "the run fails, and is tried again",
        (
            (1.2, "すみません、返品したいのですが"),
            (1.9, "箱はもう開けてしまいました"),
            (8.2, "わかりました、ありがとうございます"),
        ),
    ),
    _Part(
        "checkout-bug",
        "typed in fragments",
        (
            (2.0, "the checkout says error 42"),
            (2.3, "nvm"),
            (2.5, "now it says 43 😅"),
            (2.8, "same card"),
            (3.1, "worked yesterday"),
            (7.0, "ok tried again"),
            (7.3, "it went through!!"),
        ),
    ),
    _Part(
        "carlos",
        "two bursts, two runs",
        (
            (2.6, "Hola"),
            (2.9, "¿tienen la talla 42?"),
            (6.6, "¿y en negro?"),
            (7.1, "es para un regalo"),
        ),
    ),
    _Part(
        "amira",
        "two tool calls in one run",
        (
            (4.2, "Hello, two questions"),
            (4.7, "what about #1001"),
            (5.2, "and #1002? they were one parcel"),
            (8.6, "great 👍"),
        ),
    ),
)

_LONG_PART = _Part(
    "emil",
    "a reply in several messages",
    ((3.0, "Please tell me the longest dinosaur story that you know"),),
)
_LONG_REPLY = "\n\n".join(
    f"**Chapter {number}.** The dinosaurs set out at dawn. "
    + " ".join(
        f"In valley {number}.{valley} they found a footprint, and nobody's foot was larger 🦕."
        for valley in range(1, 10)
    )
    for number in range(1, 13)
)

_LONG_SAYS = Says(about="longest dinosaur story", reply=_LONG_REPLY, seconds=2.0)

_SCRIPT = (
    Says(
        about="make a list",
        reply="Saturday: Léa drives and has four seats. Raj is away. Tom, you could take the rest.",
    ),
    Says(
        about="that makes five",
        reply="Anna rides with Léa: five children in Léa's car. The list is up to date.",
    ),
    Says(
        about="birthday poem",
        reply="Emil, Emil, hip hooray, / you are growing up today! / Shall I say how old you are?",
        seconds=4.2,
    ),
    Says(
        about="dinosaurs",
        reply="Seven candles, seven roars, / Emil leads the dinosaurs! 🦕 Short enough?",
        seconds=1.6,
    ),
    Says(
        about="open on Sunday",
        reply="Yes, from 10 to 16, and you can park behind the house for free.",
    ),
    Says(
        about="返品",
        reply="箱が開いていても、30日以内なら返品できます。ラベルをお送りします。",
        fails_once=True,
    ),
    Says(about="ありがとうございます", reply="どういたしまして"),
    Says(
        about="error 42",
        reply="42 is your bank, 43 is us: please try once more in a minute, your card is fine.",
    ),
    Says(about="went through", reply="Wonderful, the receipt is on its way."),
    Says(about="talla 42", reply="¡Hola! Sí, queda un par de la 42."),
    Says(about="negro", reply="En negro también, y lo envolvemos para regalo 🎁"),
    Says(about="Perfect, thank you", reply="With pleasure, Mia. Enjoy the light!"),
    Says(about="great 👍", reply="Happy to help!"),
)


def the_scene(*, has_long_reply: bool = False) -> Scene:
    """Return the built-in scene: about ten seconds of eight conversations.

    With `has_long_reply` there is a ninth, with a reply that is too long for one message.
    """
    parts = (*_PARTS, _LONG_PART) if has_long_reply else _PARTS
    lines = sorted((line for part in parts for line in part.lines()), key=lambda line: line.at)
    return Scene(
        title=f"{'nine' if has_long_reply else 'eight'} conversations",
        lines=tuple(lines),
        stories={part.thread: part.story for part in parts},
        script=(*_SCRIPT, _LONG_SAYS) if has_long_reply else _SCRIPT,
        refused=("open on Sunday",),
    )
