"""Errors by kind of trouble, in the wording of a personality."""

from __future__ import annotations

from collections.abc import Mapping

from assistant_queue.testing.provider import words_of_clouds as clouds
from assistant_queue.testing.provider import words_of_servers as servers
from assistant_queue.testing.provider import words_of_small_clouds as small
from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.error_flags import Speaker
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import RunFailure
from assistant_queue.testing.provider.wordings import Facts, Kind, Wording, Words, as_problem

WORDS: Mapping[Speaker, Words] = {
    "openai": clouds.OPENAI,
    "openai_tpm": clouds.OPENAI_TPM,
    "in_stream": clouds.IN_STREAM,
    "azure": clouds.AZURE,
    "gemini": clouds.GEMINI,
    "deepseek": clouds.DEEPSEEK,
    "mistral": clouds.MISTRAL,
    "groq": clouds.GROQ,
    "anthropic": clouds.ANTHROPIC,
    "xai": small.XAI,
    "kimi": small.KIMI,
    "dashscope": small.DASHSCOPE,
    "siliconflow": small.SILICONFLOW,
    "bedrock": small.BEDROCK,
    "zhipu": small.ZHIPU,
    "github_models": small.GITHUB_MODELS,
    "cerebras": small.CEREBRAS,
    "cohere": small.COHERE,
    "together": small.TOGETHER,
    "llama_cpp": servers.LLAMA_CPP,
    "vllm": servers.VLLM,
    "sglang": servers.SGLANG,
    "ollama": servers.OLLAMA,
    "lmstudio": servers.LM_STUDIO,
    "litellm": servers.LITELLM,
    "litellm_bare": servers.LITELLM_BARE,
    "openrouter": servers.OPENROUTER,
    "ogx": servers.OGX,
    "tgi": servers.TGI,
    "nginx": servers.NGINX,
}
"""The wordings of every server; OpenAI's are used for the kinds that a server lacks."""


def trouble_of(personality: Personality, kind: Kind, facts: Facts | None = None) -> ApiProblem:
    """Return this server's error for a kind of trouble."""
    return as_problem(wording_of(personality, kind), facts or Facts())


def wording_of(personality: Personality, kind: Kind) -> Wording:
    """Return this server's wording of a kind of trouble."""
    server = (
        personality.overflow
        if kind == "overflow" and personality.overflow is not None
        else personality.words
    )
    return WORDS[server].get(kind) or clouds.OPENAI[kind]


def code_and_message(failure: RunFailure, personality: Personality) -> tuple[str, str]:
    """Return the error of a failed run.

    The script's, or the server's own if the failure names a kind of trouble.
    """
    if failure.kind is None:
        return failure.code, failure.message
    problem = trouble_of(personality, failure.kind)
    return str(problem.code or problem.error_type or failure.code), problem.message
