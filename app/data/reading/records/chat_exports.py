"""Read conversations as chat programs export them: ChatGPT, Claude, DeepSeek, Grok, LM Studio and Open WebUI.

Most keep a tree of messages, since a question may be edited and an answer given anew; the branch that was last shown is
read. A conversation that holds what no text says (pictures, files, tools, searches) is refused by its line: its answers
speak of things that would not be in the row. Thinking that is exported goes where templates look for it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

from app.data.reading.rows import BadRow, Fields

_SPEAKERS = {"system": "system", "user": "user", "human": "user", "assistant": "assistant"}
# One of these is among the names of every exported conversation.
_NAMES = frozenset(("mapping", "chat_messages", "responses", "chat", "conversations", "header", "messages"))
_SILENT_BLOCKS = ("redacted_thinking", "token_budget", "flag")
# What Open WebUI writes around thinking, calls of tools and code that was run.
_DETAILS = re.compile(r'<details\s+type="(\w+)"[^<>]{0,2000}>(.*?)</details>\s*', re.DOTALL)
_SUMMARY = re.compile(r"\s*<summary>.{0,500}?</summary>", re.DOTALL)
_GROK_MARK = re.compile(r"<grok:\w+|<xaiArtifact\b")
_GROK_SOURCES = ("web_search_results", "cited_web_search_results", "xposts", "cited_xposts", "xpost_ids")


class SeveralChats(Exception):
    """Hand over the conversations that one object holds."""

    def __init__(self, chats: list[Fields]) -> None:
        self.chats = chats
        super().__init__()


def exported_chat(fields: Fields) -> Fields:
    """Return an exported conversation as `messages`, other rows as they are.

    Raises BadRow for one that cannot be read as text alone, and SeveralChats for an object of many.
    """
    if _NAMES.isdisjoint(fields):
        return fields
    if _is_grok_export(fields):
        raise SeveralChats(fields["conversations"])
    turns = _turns(fields)
    if turns is None:
        return fields
    if not turns:
        raise BadRow("empty", "The exported conversation holds no message", "Leave it out")
    return {"messages": _joined(turns)}


def _turns(fields: Fields) -> list[Fields] | None:
    """Return the turns of an export, None for a row that is none."""
    mapping, chat = fields.get("mapping"), fields.get("chat")
    if isinstance(mapping, dict) and all(isinstance(node, dict) for node in mapping.values()):
        if "current_node" in fields:
            return _said(map(_of_chatgpt, _branch(mapping, fields["current_node"], "parent")))
        if "inserted_at" in fields or "root" in mapping:
            nodes = {name: node.get("message") or {} for name, node in mapping.items()}
            return _said(map(_of_deepseek, _branch(mapping, _newest(nodes, "inserted_at"), "parent")))
    if isinstance(fields.get("chat_messages"), list):
        return _claude(fields, fields["chat_messages"])
    if isinstance(chat, dict) and ("history" in chat or "messages" in chat):
        return _open_webui(chat)
    if _is_lm_studio(fields.get("messages")):
        return _lm_studio(fields, fields["messages"])
    responses = fields.get("responses")
    if isinstance(fields.get("conversation"), dict) and isinstance(responses, list):
        return _grok([one.get("response") for one in responses if isinstance(one, dict)])
    if fields.get("header") == "Gemini Apps":
        why = "Google's list of activities of Gemini does not say which texts are one conversation"
        raise BadRow("shape", why, 'Write each as {"messages": [{"role": "user", "content": ...}, ...]}')
    return None


def _is_grok_export(fields: Fields) -> bool:
    listed = fields.get("conversations")
    first = listed[0] if isinstance(listed, list) and listed else None
    return isinstance(first, dict) and "conversation" in first and "responses" in first


def _said(turns: Iterable[Fields | None]) -> list[Fields]:
    return [turn for turn in turns if turn is not None]


def _branch(nodes: Fields, at: Any, parent: str) -> list[Fields]:
    """Return the nodes from the root to one, by the names of their parents; a circle ends where it closes."""
    path: list[Fields] = []
    seen: set[str] = set()
    while isinstance(at, str) and at in nodes and at not in seen and isinstance(nodes[at], dict):
        seen.add(at)
        path.append(nodes[at])
        at = nodes[at].get(parent)
    return path[::-1]


def _newest(messages: Fields, time: str) -> str | None:
    """Return the name of the message that was written last."""
    dated = {name: one for name, one in messages.items() if isinstance(one, dict) and one}
    return max(dated, key=lambda name: str(dated[name].get(time) or ""), default=None)


def _turn(sender: object, text: str, reasoning: str = "") -> Fields | None:
    """Return a message as a turn, None for one that says nothing."""
    role = _SPEAKERS.get(str(sender).lower())
    if role is None:
        raise _uses_tool()
    if not text.strip():
        return None
    turn: Fields = {"role": role, "content": text}
    return {**turn, "reasoning_content": reasoning} if reasoning.strip() and role == "assistant" else turn


def _uses_tool() -> BadRow:
    return BadRow("tool_call", "The exported conversation used a tool", "Leave it out, or keep its texts only")


def _holds(what: object) -> BadRow:
    return BadRow("media", f"The exported conversation holds {str(what)[:40]}, not only text", "Leave it out")


def _of_chatgpt(node: Fields) -> Fields | None:
    """Return a message of ChatGPT as a turn, None for one that was never shown or says nothing."""
    message = node.get("message")
    if not isinstance(message, dict):
        return None
    author, content, about = message.get("author"), message.get("content"), message.get("metadata")
    if not isinstance(author, dict) or not isinstance(content, dict):
        return None
    kind = content.get("content_type")
    hidden = isinstance(about, dict) and about.get("is_visually_hidden_from_conversation")
    if hidden or kind in ("thoughts", "reasoning_recap", "model_editable_context", "user_editable_context"):
        return None
    parts = content.get("parts")
    text = "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
    if author.get("role") not in _SPEAKERS or message.get("recipient", "all") not in ("all", None):
        raise _uses_tool()
    if kind != "text" or (isinstance(parts, list) and not all(isinstance(part, str) for part in parts)):
        raise _holds(kind)
    return _turn(author["role"], text)


def _of_deepseek(node: Fields) -> Fields | None:
    """Return a message of DeepSeek as a turn: its fragments are a request, or thinking and a response."""
    message = node.get("message")
    if not isinstance(message, dict):
        return None
    if message.get("files"):
        raise _holds("a file")
    fragments = message.get("fragments")
    if not isinstance(fragments, list) or not all(isinstance(one, dict) for one in fragments):
        raise BadRow("shape", "The messages of this export have no fragments", "Export it anew from DeepSeek")
    text: dict[str, str] = {}
    for one in fragments:
        kind = str(one.get("type"))
        if kind not in ("REQUEST", "RESPONSE", "THINK"):
            raise _uses_tool()  # a search, a page that was read
        text[kind] = text.get(kind, "") + str(one.get("content") or "")
    if "REQUEST" in text:
        return _turn("user", text["REQUEST"])
    return _turn("assistant", text.get("RESPONSE", ""), text.get("THINK", ""))


def _claude(fields: Fields, messages: list[Any]) -> list[Fields]:
    """Return the turns of a conversation of Claude; without the names of parents they stand in their order."""
    listed = [one for one in messages if isinstance(one, dict)]
    nodes = {str(one.get("uuid")): one for one in listed}
    if len(nodes) == len(listed) and any("parent_message_uuid" in one for one in listed):
        shown = fields.get("current_leaf_message_uuid")
        at = shown if shown in nodes else _newest(nodes, "created_at")
        listed = _branch(nodes, at, "parent_message_uuid")
    return _said(map(_of_claude, listed))


def _of_claude(message: Fields) -> Fields | None:
    content = message.get("content")
    blocks = content if isinstance(content, list) and content else [{"type": "text", "text": message.get("text")}]
    text, reasoning = "", ""
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            text += str(block.get("text") or "")
        elif kind == "thinking":
            reasoning += str(block.get("thinking") or "")
        elif kind in ("tool_use", "tool_result"):
            raise _uses_tool()
        elif kind not in _SILENT_BLOCKS:
            raise _holds(kind)
    if message.get("files") or message.get("files_v2"):
        raise _holds("a file")
    for attached in message.get("attachments") or []:
        pasted = attached.get("extracted_content") if isinstance(attached, dict) else None
        if not isinstance(pasted, str) or not pasted:
            raise _holds("an attachment")
        text = f"{text}\n\n{pasted}" if text.strip() else pasted
    return _turn(message.get("sender"), text, reasoning)


def _open_webui(chat: Fields) -> list[Fields] | None:
    """Return the turns of a chat of Open WebUI, its system text in front."""
    history = chat.get("history")
    nodes = history.get("messages") if isinstance(history, dict) else None
    listed = chat.get("messages")
    if isinstance(history, dict) and isinstance(nodes, dict) and history.get("currentId") in nodes:
        listed = _branch(nodes, history["currentId"], "parentId")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    given = chat.get("params")
    system = str((given.get("system") if isinstance(given, dict) else None) or chat.get("system") or "")
    return _said([_turn("system", system), *map(_of_open_webui, listed)])


def _of_open_webui(message: Fields) -> Fields | None:
    if message.get("files"):
        raise _holds("a file")
    content = message.get("content")
    if message.get("sources") or message.get("citations"):
        raise _uses_tool()
    if not isinstance(content, (str, type(None))):
        raise _holds("parts")
    thoughts: list[str] = []
    for kind, inner in _DETAILS.findall(content or ""):
        if kind != "reasoning":
            raise _uses_tool()
        lines = html.unescape(_SUMMARY.sub("", inner, count=1)).strip().split("\n")
        thoughts.append("\n".join(line.removeprefix(">").removeprefix(" ") for line in lines))
    return _turn(message.get("role"), _DETAILS.sub("", content or ""), "\n\n".join(thoughts))


def _grok(responses: list[Any]) -> list[Fields]:
    listed = [one for one in responses if isinstance(one, dict)]
    nodes = {str(one.get("_id")): one for one in listed}
    if len(nodes) == len(listed) and any(one.get("parent_response_id") for one in listed):
        listed = _branch(nodes, str(listed[-1].get("_id")), "parent_response_id")
    return _said(map(_of_grok, listed))


def _of_grok(response: Fields) -> Fields | None:
    text = response.get("message")
    if response.get("file_attachments"):
        raise _holds("a file")
    if any(response.get(name) for name in _GROK_SOURCES) or (isinstance(text, str) and _GROK_MARK.search(text)):
        raise _uses_tool()
    return _turn(
        response.get("sender"), text if isinstance(text, str) else "", str(response.get("thinking_trace") or "")
    )


def _is_lm_studio(listed: Any) -> bool:
    first = listed[0] if isinstance(listed, list) and listed else None
    return isinstance(first, dict) and isinstance(first.get("versions"), list) and "role" not in first


def _lm_studio(fields: Fields, listed: list[Any]) -> list[Fields]:
    """Return the turns of a conversation as LM Studio keeps it: of each message the version that is shown.

    The system text stands beside the messages, or among the settings of the one chat.
    """
    system = fields.get("systemPrompt")
    config = fields.get("perChatPredictionConfig")
    settings = config.get("fields") if isinstance(config, dict) else None
    for one in settings if isinstance(settings, list) else ():
        if isinstance(one, dict) and one.get("key") == "llm.prediction.systemPrompt":
            system = one.get("value") or system
    turns = [_turn("system", system)] if isinstance(system, str) else []
    return _said([*turns, *map(_of_lm_studio, listed)])


def _of_lm_studio(message: Any) -> Fields | None:
    versions = message.get("versions") if isinstance(message, dict) else None
    shown = message.get("currentlySelected", 0) if isinstance(message, dict) else 0
    if not isinstance(versions, list) or not isinstance(shown, int) or not 0 <= shown < len(versions):
        raise BadRow("shape", "A message of this conversation has no version that is shown", "Leave it out")
    version = versions[shown]
    if not isinstance(version, dict):
        raise BadRow("shape", "A message of this conversation is no message", "Leave it out")
    steps = version.get("steps") if version.get("type") == "multiStep" else [{**version, "type": "contentBlock"}]
    text, reasoning = "", ""
    for step in steps if isinstance(steps, list) else ():
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "debugInfoBlock":
            continue
        if kind != "contentBlock":
            raise _uses_tool()
        style = step.get("style")
        if isinstance(style, dict) and style.get("type") == "thinking":
            reasoning += _text_of_parts(step.get("content"))
        else:
            text += _text_of_parts(step.get("content"))
    return _turn(version.get("role"), text, reasoning)


def _text_of_parts(parts: Any) -> str:
    """Return the text of a list of parts. Raises BadRow for a part that is none."""
    if isinstance(parts, str):
        return parts
    text = ""
    for part in parts if isinstance(parts, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("toolCallRequest", "toolCallResult"):
            raise _uses_tool()
        if kind != "text":
            raise _holds("a file" if kind == "file" else kind)
        text += str(part.get("text") or "")
    return text


def _joined(turns: list[Fields]) -> list[Fields]:
    """Return turns with the pieces of one answer put together."""
    joined: list[Fields] = []
    for turn in turns:
        if joined and joined[-1]["role"] == turn["role"] == "assistant":
            thought = [one["reasoning_content"] for one in (joined[-1], turn) if "reasoning_content" in one]
            said = {"role": "assistant", "content": f"{joined[-1]['content']}\n\n{turn['content']}"}
            joined[-1] = {**said, "reasoning_content": "\n\n".join(thought)} if thought else said
        else:
            joined.append(turn)
    return joined
