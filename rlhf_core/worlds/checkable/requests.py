"""Ordinary requests in many kinds, so that a real model has something to answer without a file.

Each template goes with each of its topics, so a list of topics is written to read well in all of
them. Nothing here is asked for that a model should refuse.
"""

from functools import cache

from rlhf_core.worlds.checkable.prompts import CheckablePrompt

_TEMPLATES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("Explain {} in simple words.", "How does {} work?", "What should everybody know about {}?"): (
        "photosynthesis", "inflation", "gravity", "a vaccine", "the internet", "compound interest",
        "natural selection", "a solar panel", "the water cycle", "a heat pump", "an election",
        "the human heart",
    ),
    ("How can I {}?", "I want to {}. Where do I start?", "Give me advice: I would like to {}."): (
        "sleep better", "save some money", "learn to cook", "eat more vegetables",
        "make new friends", "ask for a raise", "stop putting things off",
        "get ready for a job interview", "keep my plants alive", "get fit without a gym",
        "learn a new language", "stay calm before an exam",
    ),
    ("List some {}.", "Can you give me a few {}?", "I need {}. What comes to your mind?"): (
        "ideas for a rainy day", "healthy snacks", "names for a cat", "gifts for a grandmother",
        "hobbies for the winter", "questions to ask a new colleague", "games for a long car ride",
        "dishes without meat", "tips for a first camping trip", "ways to save water at home",
        "topics for a school project", "things to see in a big city",
    ),
    ("What is the difference between {}?", "Compare {} for me."): (
        "tea and coffee", "cats and dogs", "a city and a village", "a laptop and a tablet",
        "butter and margarine", "a novel and a short story", "weather and climate",
        "jogging and swimming", "a crocodile and an alligator", "renting and buying a home",
        "a lake and a sea", "jam and marmalade",
    ),
    ("How do I {}?", "What are the steps to {}?"): (
        "boil an egg", "change a flat tyre", "iron a shirt", "tie a tie", "remove a wine stain",
        "plant tomatoes", "make pancakes", "clean a window", "write a CV", "back up my photos",
        "bake bread", "stop a tap from dripping",
    ),
    ("Write a short message to {}.", "Help me find the words to {}."): (
        "thank a neighbour who watered my plants", "invite friends to a picnic",
        "say sorry for being late", "wish a colleague a good holiday",
        "cancel an appointment at the dentist", "congratulate my sister on her exam",
        "ask my landlord to repair the heating", "welcome a new member to our choir",
        "remind a friend of a book that I lent", "tell my team that I am ill today",
    ),
    ('Say this more politely: "{}"', 'Make this sentence shorter: "{}"'): (
        "Send me the report today, I have been waiting for it for a week now.",
        "You are standing in my way and I need to get past you.",
        "Your music is too loud and nobody in this house can sleep.",
        "I do not have the time to explain this to you for a third time.",
        "The soup that you brought us is cold and there is no salt in it.",
        "Close the window at once because it is getting cold in here.",
        "Nobody told me about the meeting and so I missed all of it.",
        "Give me my umbrella back because it looks like it will rain.",
    ),
}  # fmt: skip
_SINGLE = """
    What is the tallest mountain in the world?
    Who painted the Mona Lisa?
    Why is the sky blue?
    How many legs does a spider have?
    What is the boiling point of water?
    Which planet is closest to the sun?
    When did the first people walk on the moon?
    What do bees make?
    Why do leaves change colour in autumn?
    What is the largest ocean?
    How long does it take the earth to go around the sun?
    What language do people speak in Brazil?
    Why does ice float on water?
    What is a group of lions called?
    How many days does February have?
    What causes a rainbow?
    Which metal is liquid at room temperature?
    Why do cats purr?
    What is bread made of?
    How many players are in a football team?
    Hello! How are you today?
    Good morning! Any plans for the day?
    I had a long day at work.
    It has been raining all week.
    My team won yesterday!
    I am bored. What can we talk about?
    Tell me something interesting.
    Do you prefer summer or winter?
    I just adopted a puppy.
    I cannot decide what to have for dinner.
    Tell me a joke about a chicken.
    What would you do on a free Sunday?
    I am a little nervous about tomorrow.
    Thanks, that was really helpful.
    Write a poem about the sea.
    Write a short story about a lost key.
    Suggest a title for a book about a lighthouse keeper.
    Describe a perfect breakfast.
    Describe an old oak tree.
    Invent a name for a small bakery.
"""


@cache
def built_in_requests() -> tuple[CheckablePrompt, ...]:
    """All built-in requests, in a fixed order."""
    filled = [
        template.format(topic)
        for templates, topics in _TEMPLATES.items()
        for template in templates
        for topic in topics
    ]
    single = [line.strip() for line in _SINGLE.strip().splitlines()]
    return tuple(CheckablePrompt(text) for text in [*filled, *single])
