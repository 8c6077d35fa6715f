"""Self-hosted servers and gateways, as the stand-in plays them.

Source: runs of llama.cpp, LiteLLM and OGX, in the versions of `docs/backends.md`; for the others
    the public reports in the comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from assistant_queue.testing.provider.named import Named
from assistant_queue.testing.provider.personality import Personality

# Self-hosted servers ignore fields that they do not know.
_CHAT = Personality(speaks=("chat_completions",), unknown_fields="ignored")

_LLAMA_CPP = replace(_CHAT, words="llama_cpp", error_codes="status", opens_with="null")

# vllm-project/vllm#19419 ("" as arguments), #33268 (which it refuses); arguments sent again: some
# of its parsers of calls.
_VLLM = replace(
    _CHAT,
    words="vllm",
    error_codes="status",
    thinks="reasoning_content",
    call_arguments="empty",
    unreadable_arguments="refused",
    call_pieces="repeated",
)

# huggingface/chat-ui#1386, suitenumerique/conversations#197.
_GEMMA = replace(
    _CHAT,
    words="vllm",
    error_body="flat",
    error_codes="status",
    system_role="refused",
    wants_turns=True,
    after_tool="assistant",
)

_SGLANG = replace(
    _CHAT,
    words="sglang",
    error_body="flat",
    error_codes="status",
    thinks="reasoning_content",
    later_pieces="null",
)

# ollama/ollama#15457 (index 0), SAIL-Research-Lab/cheetahclaws#72 (null); what is too long is cut
# without a word.
_OLLAMA = replace(
    _CHAT,
    words="ollama",
    keys="any",
    call_index="zero",
    call_pieces="whole",
    thinks="reasoning",
    null_content="refused",
    truncation="always",
)

# aaif-goose/goose#3635 (an error event inside a 200), lmstudio-ai/lmstudio-bug-tracker#261 (null).
_LM_STUDIO = replace(
    _CHAT,
    words="lmstudio",
    keys="any",
    error_event="error",
    null_content="refused",
    call_ids="nine",
    thinks="tags",
)

# huggingface/text-generation-inference#3198 (turns, calls numbered from 0); its published names of
# reasons.
_TGI = replace(
    _CHAT,
    words="tgi",
    error_body="error_text",
    keys="any",
    call_ids="numbered",
    call_arguments="object",
    ends_text_with="eos_token",
    ends_calls_with="stop",
    wants_turns=True,
    omits_done=True,
)

_LITELLM = replace(
    _CHAT,
    words="litellm",
    error_codes="status_text",
    usage_place="with_choice",
    later_pieces="typed",
    masks_failures=True,
)

_OGX = Personality(
    speaks=("responses",),
    words="ogx",
    lock="none",
    error_body="detail",
    error_codes="status_text",
    errors_in_stream=True,
    names_events=False,
    omits_conversation=True,
    omits_done=True,
    stream_in_background="refused",
    foreground="stops",
    foreground_cancel=409,
    resumes_streams=False,
    open_calls="fails",
    truncation="always",
    unknown_fields="ignored",
)

# Source: runs of independent servers, each of which showed some of these.
_SMALL_RESPONSES = Personality(
    speaks=("responses",),
    lock="none",
    error_body="errors",
    list_order="reshuffled",
    ignores_after=True,
    ignores_limit=True,
    has_more="missing",
    foreground="stops",
    foreground_cancel=404,
    background="refused",
    input="required",
    omits_usage=True,
    omits_conversation=True,
    resumes_streams=False,
    truncation="refused",
    unknown_fields="ignored",
)
_SMALL_ASSISTANTS = Personality(
    speaks=("assistants",),
    lock="conflict",
    error_body="detail",
    ignores_run_id_filter=True,
    ignores_order=True,
    expires_at="zero",
    ignores_additional_messages=True,
    omits_usage=True,
    unknown_fields="ignored",
)

# Reports of many small gateways: the content type is lost, lines end as on Windows, pages instead
# of JSON.
_PROXY = replace(
    _CHAT,
    words="nginx",
    content_type="text/plain",
    line_end="crlf",
    keep_alive="comment",
    bom=True,
    omits_done=True,
    omits_last_blank_line=True,
    stream_options="refused",
    usage_values="texts",
    choice_index="text",
    completion_ids="null",
    content="strings",
)

_OLD_GATEWAY = replace(
    _CHAT,
    error_body="text",
    error_codes="null",
    ignores_stream=True,
    legacy_calls=True,
    content="parts",
    completion_ids="number",
    choice_index="absent",
    usage_values="floats",
    null_content="refused",
    wants_turns=True,
    system_role="refused",
    reply_limit="max_tokens",
)

SERVERS: Mapping[str, Named] = {
    "llama_cpp": Named(
        title="llama.cpp's server",
        differs="codes are the status as a number; 503 while the model loads; a first chunk with "
        "`null` as content; templates that refuse "
        "turns speak in the words of their interpreter",
        remedy="the code in a body is read as a status; loading is waited for; the words decide",
        personality=_LLAMA_CPP,
    ),
    "vllm": Named(
        title="vLLM",
        differs='arguments `""` for a call without any, which it refuses when they come back; '
        "arguments repeated whole in the last piece; "
        "thoughts in `reasoning_content`",
        remedy='calls are sent back with `"{}"`; repeated arguments are not doubled; thoughts go '
        "back with their round",
        personality=_VLLM,
    ),
    "vllm_gemma": Named(
        title="vLLM with Gemma's template",
        differs="no system role; user and assistant must take turns; flat error bodies with "
        "numbers as codes",
        remedy="the instructions join the first user message, neighbours are joined; remembered "
        "for the model",
        personality=_GEMMA,
    ),
    "sglang": Named(
        title="SGLang",
        differs="flat error bodies; `null` as name and id in later pieces of a call",
        remedy="blank fields of later pieces overwrite nothing",
        personality=_SGLANG,
    ),
    "ollama": Named(
        title="Ollama",
        differs="every call has index 0; thoughts in `reasoning`; `content: null` refused; what "
        "is too long is cut without a word; any key",
        remedy='a new id begins a new call; `content: ""` where null is refused; bound '
        "`history_tokens` to the model's context yourself",
        personality=_OLLAMA,
    ),
    "lmstudio": Named(
        title="LM Studio",
        differs="a prompt that is too long is an `error` event inside a 200; `content: null` "
        "refused; `<think>` in the text; any key",
        remedy="errors inside a stream are read as errors of the request; tags are taken out "
        "(`reasoning_tags`)",
        personality=_LM_STUDIO,
    ),
    "tgi": Named(
        title="Text Generation Inference",
        differs="arguments as an object; calls numbered from 0; `eos_token` as reason; no "
        "`[DONE]`; errors as text; turns",
        remedy="objects become JSON; calls get new ids; the reason is taken for a good end",
        personality=_TGI,
    ),
    "litellm": Named(
        title="LiteLLM's proxy",
        differs="the other server's code is lost, its words stay; codes are the status as text; an "
        "error in mid-stream is always a 500; "
        "`Retry-After` of the other server has another name",
        remedy="the words decide; what is reported as a crash counts as an attempt",
        personality=_LITELLM,
    ),
    "ogx": Named(
        title="OGX (llama-stack)",
        differs="no lock; `stream` and `background` refused together; errors of a streamed request "
        "inside a 200, in `detail` else; no "
        "event lines; a foreground response dies with its reader, unseen; the error of the server "
        "behind it is lost; outputs heal a "
        "conversation only in their own request",
        remedy="background without stream, polled; the code of an event is read as a status; what "
        "is lost counts as an attempt",
        personality=_OGX,
        loses=frozenset(
            {
                "no_quota",
                "moderated",
                "rate_limited",
                "overloaded",
                "loading",
                "gateway",
                "server_error",
            }
        ),
    ),
    "small_responses": Named(
        title="a small Responses server",
        differs="no lock, no background, no usage; a conversation's items in another order for "
        "every request, in one page; an empty "
        "`input` refused; a foreground response dies with its reader, unseen",
        remedy="absence is proven by all items, or the batch is parked; a response that shows no "
        "life is asked about after "
        "`stream_idle_timeout`",
        personality=_SMALL_RESPONSES,
    ),
    "small_assistants": Named(
        title="a small Assistants server",
        differs="the `run_id` filter, `order` and `additional_messages` ignored; `expires_at` 0; "
        "the lock as 409; no usage",
        remedy="messages are filtered and sorted here, and posted one by one",
        personality=_SMALL_ASSISTANTS,
    ),
    "proxy": Named(
        title="a careless proxy before any server",
        differs="pages instead of error bodies; `text/plain`; CRLF, a byte order mark, comments; "
        "neither `[DONE]` nor a last blank line; "
        "`stream_options` refused; ids null, indexes and usage as text, content as a list of "
        "strings",
        remedy="the body decides what it is; the status decides what it means",
        personality=_PROXY,
    ),
    "old_gateway": Named(
        title="a gateway of the first years",
        differs="JSON though a stream was asked for; `function_call`; errors as plain text; "
        "neither system role nor `content: null`; "
        "turns; `max_tokens` only",
        remedy="each refusal is remedied once and remembered; the call is answered as any other",
        personality=_OLD_GATEWAY,
    ),
}
