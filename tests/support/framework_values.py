"""What agent frameworks pass about and raise, encoded and read again: a program for an environment that has them.

`python framework_values.py FOLDER...`: the folders are where Kitaru's packages and these helpers are. It prints JSON:
what came back otherwise, by name. Nothing goes over the network.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
import sys
from typing import Any

SECRET = "sk-secret"


def values() -> dict[str, Any]:
    import litellm
    from langchain_core.agents import AgentAction
    from langchain_core.documents import Document
    from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, Generation, LLMResult
    from langgraph.types import Command, Interrupt, Send
    from mcp.types import CallToolResult, TextContent, Tool
    from openai.types.chat import ChatCompletion
    from pydantic_ai import messages as pai
    from pydantic_ai.tools import DeferredToolRequests
    from pydantic_ai.usage import RequestUsage, RunUsage

    called = pai.ToolCallPart("get", '{"a": 1}', tool_call_id="x")
    called.otel_metadata = {"span": 1}
    image = pai.BinaryContent(data=b"abc", media_type="image/png")
    usage = {"completion_tokens": 1, "prompt_tokens": 1, "total_tokens": 2}
    message = {"role": "assistant", "content": "x", "reasoning": "y"}
    choice = {"finish_reason": "stop", "index": 0, "message": message}
    completion = ChatCompletion.model_validate(
        {
            "id": "1",
            "choices": [choice],
            "created": 1,
            "model": "m",
            "object": "chat.completion",
            "usage": usage,
            "of": {},
        }
    )
    said = litellm.mock_completion(model="gpt-4", messages=[{"role": "user", "content": "x"}], mock_response="hi")
    tokens = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    return {
        "ModelResponse": pai.ModelResponse(
            parts=[pai.TextPart("x"), called, pai.ThinkingPart("hm")], usage=RequestUsage(input_tokens=3)
        ),
        "ModelRequest": pai.ModelRequest(
            parts=[
                pai.SystemPromptPart("s"),
                pai.UserPromptPart(["a", pai.ImageUrl("http://x/y.png"), image]),
                pai.ToolReturnPart("get", ("Oslo", 1), "x"),
            ]
        ),
        "usages": [RunUsage(requests=1), RequestUsage(), DeferredToolRequests(calls=[called])],
        "AIMessage": AIMessage("hi", tool_calls=[{"name": "a", "args": {}, "id": "1"}], usage_metadata=tokens),
        "messages": [HumanMessage("x"), ToolMessage("r", tool_call_id="1", artifact=(1, 2)), SystemMessage("s")],
        "chunks": [AIMessageChunk("c"), Document("page", metadata={"a": (1,)}), AgentAction("t", "i", "l")],
        "LLMResult": LLMResult(generations=[[ChatGeneration(message=AIMessage("x")), Generation(text="a")]]),
        "ChatCompletion": completion,
        "what the service did not promise": ChatCompletion.construct(choices=[{"finish_reason": "odd", "index": 0}]),
        "CallToolResult": CallToolResult(content=[TextContent(type="text", text="x")]),
        "Tool": Tool.model_validate({"name": "x", "inputSchema": {"type": "object"}}),
        "litellm": [said, said.choices[0].message, said.usage],
        "Command": Command(goto=Send("n", {"a": (1, 2)}), update={"x": 1}),
        "Interrupt": [Interrupt(value="q", id="3"), Send("a", 1), Command(resume={"a": 1}, goto=["x"])],
    }


def failures() -> dict[str, BaseException]:
    import botocore.session
    import httpx
    import litellm
    import openai
    import pydantic_ai.exceptions as pai
    from langchain_core.exceptions import OutputParserException
    from langgraph.errors import GraphRecursionError

    http = sys.modules.get("httpx2", httpx)

    def response(package: Any) -> Any:
        headers = {"Authorization": f"Bearer {SECRET}", "x-goog-api-key": SECRET}
        request = package.Request("POST", "https://api.example/v1", headers=headers, content=SECRET.encode())
        return package.Response(429, request=request, headers={"retry-after": "7"}, json={"error": "slow"})

    client = botocore.session.get_session().create_client(
        "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key=SECRET
    )
    found = {
        "openai": openai.RateLimitError("slow", response=response(http), body={"code": "rl"}),
        "openai, no answer": openai.APITimeoutError(request=response(http).request),
        "litellm": litellm.RateLimitError("slow", "openai", "gpt", response=response(httpx)),
        "botocore": client.exceptions.NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject"),
        "Pydantic AI": pai.ModelHTTPError(429, "gpt", body={"a": 1}),
        "LangChain": OutputParserException("bad", observation="o", llm_output="l", send_to_llm=True),
        "LangGraph": GraphRecursionError("x"),
    }
    try:
        response(httpx).raise_for_status()
    except httpx.HTTPStatusError as error:
        found["httpx"] = error
    return found


def main() -> None:
    sys.path.extend(sys.argv[1:])
    from value_kinds import seen

    from kitaru_registry.journal.display import as_json
    from kitaru_runner.values import codec
    from kitaru_runner.values.failures import describe_failure, rebuild

    wrong = {}
    for name, value in values().items():
        encoded = codec.encode(value)
        back = codec.decode(encoded)
        shown = json.dumps(as_json(encoded.codec, encoded.data))
        if encoded.codec != "tagged" or seen(back) != seen(value) or repr(back) != repr(value) or "<pickle" in shown:
            wrong[name] = [encoded.codec, repr(value), repr(back)]
    for name, error in failures().items():
        record = json.dumps(describe_failure(error))
        found: Any = rebuild(json.loads(record))
        same = (type(found).__name__, str(found), found.args) == (type(error).__name__, str(error), error.args)
        answer = getattr(error, "response", None)
        answered = isinstance(answer, dict | None) or found.response.headers["retry-after"] == "7"
        if not same or not answered or not isinstance(found, type(error).__mro__[1]) or SECRET in record:
            wrong[name] = [repr(error), repr(found), record]
    print(json.dumps(wrong))


if __name__ == "__main__":
    main()
