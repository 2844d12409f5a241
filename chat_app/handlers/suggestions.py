"""Prompts that the page Compare suggests: built in, never what other people wrote.

The starter gets questions of its own small world, the training half of it, so that test questions
stay unseen. Any other model gets `GENERAL`. Nobody is offered what they asked there before, while
there is something else.
"""

import random
from collections.abc import Collection, Iterator

from rlhf_core.worlds.starter.facts import facts
from rlhf_core.worlds.starter.world import sample_request

TRIES = 20  # draws for each suggestion of the starter's world; most are new
GENERAL = (
    "Explain to a child why the sky is blue.",
    "Write a short poem about rain on a tin roof.",
    "What is the difference between weather and climate?",
    "Plan a simple dinner for four with what is in season in autumn.",
    "Write a friendly message that says no to an invitation.",
    "How does a bicycle stay upright?",
    "Give me three ideas for a rainy afternoon with two children.",
    "Summarise the story of Romeo and Juliet in three sentences.",
    "What should I look at before I rent a flat?",
    "Explain what inflation is, with one example.",
    "Write a short story that begins with a lost key.",
    "How do I learn to wake up earlier?",
    "What are good questions to ask in a job interview?",
    "Explain how vaccines work, in plain words.",
    "Name three advantages and three disadvantages of remote work.",
    "Write a polite complaint about a parcel that came late.",
    "How do I remove a red wine stain from a carpet?",
    "What makes a good apology?",
    "Explain recursion with an example from daily life.",
    "Give me a packing list for a weekend in the mountains.",
    "Why do leaves change colour in autumn?",
    "Write a limerick about a cat that hates Mondays.",
    "What is the best way to prepare for an exam in one week?",
    "Explain the rules of chess to somebody who knows draughts.",
    "How can I save water at home?",
    "Write a product description for a wooden spoon.",
    "What happened on the way to the first landing on the Moon?",
    "Is a hot dog a sandwich? Argue for one side.",
    "Give me a week of short exercises for a stiff back.",
    "What does a mortgage cost me beyond the interest?",
    "Write an email that asks a colleague for help without pressure.",
    "How do I make bread without a machine?",
    "Explain what an algorithm is to my grandmother.",
    "What are the main ideas of stoicism?",
    "Write a bedtime story about a shy dragon.",
    "Which three books should everybody read once, and why?",
    "How do noise-cancelling headphones work?",
    "Give me tips for a first talk in front of many people.",
    "What is a fair way to share housework?",
    "Write the opening of a detective story set in a library.",
    "Why is the sea salty?",
    "How do I say no to more work without sounding rude?",
    "Describe a sunset to somebody who has never seen one.",
    "What is the difference between a virus and a bacterium?",
    "Make a plan to learn a language in half a year.",
    "Write a toast for a wedding of two good friends.",
    "How does a search engine find what I look for?",
    "What can I cook with rice, eggs and one onion?",
    "Explain supply and demand with a lemonade stand.",
    "Give me five names for a small bakery, each with a reason.",
)


def suggested(
    n: int, *, starter: bool, asked: Collection[str], rng: random.Random
) -> tuple[str, ...]:
    """Up to ``n`` different prompts.

    Args:
        n: How many.
        starter: Whether the model is the embedded one.
        asked: What the person asked before; it comes last, if at all.
        rng: Draws them.
    """
    if not starter:
        drawn = rng.sample(GENERAL, len(GENERAL))
        return tuple(sorted(drawn, key=lambda prompt: prompt in asked)[:n])
    new = dict.fromkeys(text for text in _of_the_world(n * TRIES, rng) if text not in asked)
    return tuple(new)[:n]


def _of_the_world(n: int, rng: random.Random) -> Iterator[str]:
    pool = facts("train")
    return (sample_request(rng, pool).text for _ in range(n))
