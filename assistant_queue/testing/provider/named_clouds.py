"""Hosted models, as the stand-in plays them.

Source: the public reports that the comments name, and each provider's published description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from assistant_queue.testing.provider.named import Named
from assistant_queue.testing.provider.personality import Personality

_CHAT = Personality(speaks=("chat_completions",))
_LENIENT = replace(_CHAT, unknown_fields="ignored")

# RooCodeInc/Roo-Code#6868, charmbracelet/crush#1216, lobehub/lobehub#9385.
_UNVERIFIED = Personality(streams="refused", speaks=("responses", "chat_completions"))

# Its reasoning models: no system message, and the reply is bounded by another field.
_REASONING = replace(_CHAT, system_role="refused_by_value", reply_limit="max_completion_tokens")

_AZURE = Personality(words="azure", lock="conflict", opens_with="filter_results")

# vercel/ai#14277 (index 0), n4ze3m/page-assist#406 (a list of one), 0xPlaygrounds/rig#788 (the
# developer's instruction).
_GEMINI = replace(
    _CHAT,
    words="gemini",
    error_body="list",
    error_codes="status",
    call_ids="empty",
    call_index="zero",
    call_pieces="whole",
    ends_calls_with="stop",
    finish="every",
    usage_place="every",
)
_GEMMA = replace(
    _GEMINI,
    system_role="refused_as_developer",
    finish="last",
    usage_place="last",
    ends_text_with="STOP",
)

# agentscope-ai/QwenPaw#433 (its thoughts back); its documentation of signs of life.
_DEEPSEEK = replace(
    _LENIENT,
    words="deepseek",
    thinks="reasoning_content",
    wants_reasoning=True,
    keep_alive="comment",
    usage_place="last",
)

# abhigyanpatwari/GitNexus#43 (its thoughts back), earendil-works/pi#2017 (usage).
_KIMI = replace(
    _LENIENT,
    words="kimi",
    thinks="reasoning_content",
    wants_reasoning=True,
    usage_place="in_choice",
)

# karthink/gptel#1203 (ids), avante-corp/avante.nvim#2562 (order), openai/openai-agents-python#442
# (stream_options).
_MISTRAL = replace(
    _CHAT,
    words="mistral",
    error_body="flat",
    call_ids="nine",
    call_id_form="nine",
    call_pieces="whole",
    after_tool="assistant",
    last_role="user_or_tool",
    unknown_fields="forbidden",
    stream_options="refused",
    reply_limit="max_tokens",
    usage_place="last",
    thinks="parts",
)

# janhq/jan#8136 (fields), HunorLaczko/ha-groq-cloud-api#27 (413).
_GROQ = replace(
    _CHAT, words="groq", unknown_fields="unsupported", thinks="reasoning", call_pieces="whole"
)

# charmbracelet/crush#279 (an error inside an error); its documentation: comments, and limits inside
# a 200.
_OPENROUTER = replace(
    _LENIENT,
    words="openrouter",
    error_codes="status",
    keep_alive="comment",
    thinks="reasoning_details",
)

# NousResearch/hermes-agent#31583 (empty texts).
_ANTHROPIC = replace(_LENIENT, words="anthropic", empty_content="refused", call_pieces="pieces")

# QwenLM/qwen-code#4049.
_DASHSCOPE = replace(
    _LENIENT,
    words="dashscope",
    thinks="reasoning_content",
    later_pieces="blank",
    finish="null_text",
    call_arguments="empty",
)

_XAI = replace(
    _LENIENT,
    words="xai",
    error_body="error_text",
    thinks="reasoning_content",
    call_pieces="whole",
    usage_place="every",
)

# memex-lab/dart_agent_core#23 (usage in every chunk).
_SILICONFLOW = replace(
    _LENIENT,
    words="siliconflow",
    error_body="code_message",
    thinks="reasoning_content",
    usage_place="every",
)

_BEDROCK = replace(
    _LENIENT, words="bedrock", error_body="message", empty_content="refused", thinks="tags"
)

_PERPLEXITY = replace(
    _LENIENT,
    wants_turns=True,
    last_role="user_or_tool",
    finish="early",
    usage_place="every",
    call_pieces="twice",
)

CLOUDS: Mapping[str, Named] = {
    "openai": Named(
        title="OpenAI",
        differs="nothing: the strict server",
        remedy="nothing",
        personality=Personality(),
    ),
    "openai_unverified": Named(
        title="OpenAI, an account that is not verified",
        differs="`stream` refused (400, param `stream`)",
        remedy="unstreamed from then on; responses run in the background and are polled",
        personality=_UNVERIFIED,
    ),
    "openai_reasoning": Named(
        title="OpenAI's first reasoning models",
        differs="no system role (code `unsupported_value`); `max_tokens` refused",
        remedy="the instructions join the first user message",
        personality=_REASONING,
    ),
    "azure": Named(
        title="Azure OpenAI, Microsoft Foundry",
        differs="the lock as 409; a first chunk of filter results; the content filter's refusal "
        "with `innererror`; a model that is not "
        "deployed is `DeploymentNotFound`",
        remedy="codes are matched at every status; a moderated prompt is sent once",
        personality=_AZURE,
    ),
    "gemini_proxy": Named(
        title="Gemini, its compatible endpoint and proxies",
        differs="errors in a list of one; `finish_reason` and usage in every chunk; calls without "
        "ids, all with index 0, ended by "
        "`stop`; a wrong key is a 400; a limit speaks of a quota",
        remedy="text after a reason is still text; calls get ids; a limit that says when to retry "
        "is waited for",
        personality=_GEMINI,
    ),
    "gemma_api": Named(
        title="Gemma at Google's endpoint",
        differs="as Gemini; the system role is refused as *developer instruction*; reasons in "
        "capitals",
        remedy="the instructions join the first user message; reasons are read in any case",
        personality=_GEMMA,
    ),
    "deepseek": Named(
        title="DeepSeek",
        differs="thoughts in `reasoning_content`, refused if they do not come back with their tool "
        "round; comments as signs of life; "
        "402 for an empty account",
        remedy="thoughts go back with their round; comments keep the stream alive; 402 is final",
        personality=_DEEPSEEK,
    ),
    "kimi": Named(
        title="Kimi (Moonshot)",
        differs="as DeepSeek about thoughts; usage inside the choice; overloaded is a 429 with "
        "its own type; no quota is one too",
        remedy="the type decides between waiting and giving up",
        personality=_KIMI,
    ),
    "mistral": Named(
        title="Mistral",
        differs="ids of calls are nine letters and digits; no user message after a tool's; unknown "
        "fields are a 422; `stream_options` "
        "refused; thoughts as parts of the content",
        remedy="ids are rewritten, an assistant message is put between, refused fields are left "
        "out; remembered",
        personality=_MISTRAL,
    ),
    "groq": Named(
        title="Groq",
        differs="fields of its answers are refused when they come back; too long is a 413 that "
        "speaks of a rate limit; 498 for a "
        "full tier",
        remedy="refused fields are left out; 413 means less history; 498 is waited for",
        personality=_GROQ,
    ),
    "openrouter": Named(
        title="OpenRouter",
        differs="numbers as codes; the other server's error as text in `metadata.raw`; limits as "
        "events inside a 200; comments",
        remedy="the number is read as a status, the text inside as an error",
        personality=_OPENROUTER,
    ),
    "anthropic_compat": Named(
        title="Anthropic's compatible endpoint",
        differs="529 when overloaded; an empty account is a 400; empty texts refused",
        remedy="529 is waited for; a credit that is too low is final",
        personality=_ANTHROPIC,
    ),
    "dashscope": Named(
        title="DashScope (Qwen)",
        differs='blank ids, types and names in later pieces; the word "null" as reason until the '
        "end; an empty account is a 400",
        remedy="blank fields overwrite nothing; only known words end an answer",
        personality=_DASHSCOPE,
    ),
    "xai": Named(
        title="xAI",
        differs="errors as text beside a sentence as code; a wrong key is a 400; calls whole in "
        "one chunk",
        remedy="both texts are read",
        personality=_XAI,
    ),
    "siliconflow": Named(
        title="SiliconFlow",
        differs="errors as `{code, message, data}` with its own numbers, or a JSON string; "
        "usage in every chunk",
        remedy="numbers that are no status are codes; the words decide",
        personality=_SILICONFLOW,
    ),
    "bedrock": Named(
        title="Amazon Bedrock's compatible endpoint",
        differs="errors as `{message}`; empty texts refused; `<think>` in the text",
        remedy="the status and the words decide; tags are taken out",
        personality=_BEDROCK,
    ),
    "perplexity": Named(
        title="Perplexity",
        differs="turns; text after `finish_reason`; usage in every chunk; calls sent twice",
        remedy="neighbours are joined; a call with the same id is the same call",
        personality=_PERPLEXITY,
    ),
}
