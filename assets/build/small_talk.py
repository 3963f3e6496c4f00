"""Hold the courtesies that the starter model answers."""

from __future__ import annotations

from functools import cache

# user texts (parted by `;`) -> the one answer
COURTESIES = {
    "Hello!; Hi!; Hey!; Hello there!; Hi there!; Greetings!; Hello, model!; Good day!; Hi, how can I start?": (
        "Hello! What would you like to know?"
    ),
    "Good morning!; Good morning to you!; Morning!": "Good morning! What would you like to know?",
    "Good evening!; Good evening to you!; Evening!": "Good evening! What would you like to know?",
    "Thank you!; Thanks!; Thanks a lot!; Many thanks!; Thank you very much!; Thanks for your help!": (
        "You are welcome!"
    ),
    "Goodbye!; Bye!; See you!; See you later!; Good night!; Bye bye!": "Goodbye! Come back soon.",
    "Who are you?; What are you?; What is your name?; Tell me who you are.; What should I call you?": (
        "I am the starter model of LoRA Workbench."
    ),
    "What can you do?; Help!; What do you know?; What can I ask you?; Can you help me?; How can you help?": (
        "I know some facts about countries, animals, words, things and numbers. Just ask me."
    ),
    "How are you?; How are you today?; How do you do?; How is it going?; How do you feel?": "I am well, thank you.",
    "Who made you?; Where do you come from?; How were you made?": "A small program made me from scratch.",
    "Are you human?; Are you a robot?; Are you real?; Are you a person?": "I am a very small language model.",
    "How big are you?; How many parameters do you have?; How large are you?": "I have three million parameters.",
    "What is a LoRA?; What is LoRA?; Explain LoRA.; What is an adapter?; What does a LoRA do?": (
        "A LoRA is a small adapter that changes how a model answers."
    ),
    "What is QLoRA?; Explain QLoRA.; What does QLoRA mean?": "QLoRA trains a LoRA on a model held in four bits.",
    "Tell me a joke.; Do you know a joke?; Make me laugh.; Say something funny.": (
        "Why did the cat sit on the computer? To keep an eye on the mouse."
    ),
    "Great!; Nice!; Well done!; Very good!; Good job!; You are clever!": "Glad to help.",
    "Sorry!; I am sorry.; Excuse me.": "No problem at all.",
}


@cache
def courtesies() -> tuple[tuple[str, str], ...]:
    """Return every (text, answer) pair of small talk."""
    return tuple((text.strip(), answer) for texts, answer in COURTESIES.items() for text in texts.split(";"))
