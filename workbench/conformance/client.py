"""Checks with the openai Python client; run.sh starts the servers."""

import os
import sys
import time

import openai

URL = os.environ["ROUNDHOUSE_URL"]
MODEL = "demo"
HELLO = [{"role": "user", "content": "Tell me a story."}]
client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0, timeout=120)
checks = []


def check(f):
    checks.append(f)
    return f


def chat(**kwargs):
    kwargs = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0} | kwargs
    return client.chat.completions.create(**kwargs)


def text(**kwargs):
    kwargs = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0} | kwargs
    return client.completions.create(**kwargs)


def raises(kind, f):
    try:
        f()
    except kind as e:
        assert type(e) is kind, f"{type(e).__name__}, wanted {kind.__name__}"
        return e
    raise AssertionError(f"no {kind.__name__} was raised")


@check
def models_list_and_get():
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


@check
def chat_whole():
    r = chat()
    c = r.choices[0]
    assert c.message.role == "assistant" and c.message.content and c.finish_reason == "length"
    assert r.usage.completion_tokens == 12
    assert r.usage.total_tokens == r.usage.prompt_tokens + 12


@check
def chat_stream_with_usage():
    whole = chat()
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    joined = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert joined == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["length"]


@check
def chat_stream_helper():
    with client.chat.completions.stream(model=MODEL, messages=HELLO, max_tokens=500, temperature=0) as s:
        text = "".join(e.delta for e in s if e.type == "content.delta")
        final = s.get_final_completion().choices[0]
    assert final.message.content == text != "" and final.finish_reason == "stop"


@check
def chat_several_choices():
    r = chat(n=3, temperature=1, seed=1)
    assert [c.index for c in r.choices] == [0, 1, 2]
    assert len({c.message.content for c in r.choices}) > 1


@check
def choices_share_their_prompt():
    one = chat(seed=3, temperature=1)
    several = chat(n=4, seed=3, temperature=1)
    assert several.usage.prompt_tokens == one.usage.prompt_tokens
    assert several.usage.completion_tokens == 48
    assert several.choices[0].message.content == one.choices[0].message.content
    texts = {}
    for chunk in chat(n=4, seed=3, temperature=1, stream=True, stream_options={"include_usage": True}):
        for c in chunk.choices:
            texts[c.index] = texts.get(c.index, "") + (c.delta.content or "")
    assert texts == {c.index: c.message.content for c in several.choices}
    assert chunk.usage == several.usage


@check
def logit_bias():
    free = chat(logprobs=True, top_logprobs=2, extra_body={"return_token_ids": True}, max_tokens=4).choices[0]
    first = free.token_ids[0]
    without = chat(logit_bias={str(first): -100}, extra_body={"return_token_ids": True}, max_tokens=4).choices[0]
    assert first not in without.token_ids
    only = chat(logit_bias={str(first): 100}, extra_body={"return_token_ids": True}, max_tokens=4).choices[0]
    assert only.token_ids == [first] * 4
    e = raises(openai.BadRequestError, lambda: chat(logit_bias={"99999999": 1}))
    assert e.param == "logit_bias"


@check
def penalties():
    def ids(**kwargs):
        body = {"return_token_ids": True, "ignore_eos": True} | kwargs.pop("extra_body", {})
        return chat(max_tokens=60, extra_body=body, **kwargs).choices[0].token_ids

    plain = len(set(ids()))
    assert len(set(ids(presence_penalty=2, frequency_penalty=2))) > plain
    assert len(set(ids(extra_body={"repetition_penalty": 2}))) > plain
    raises(openai.BadRequestError, lambda: chat(presence_penalty=2.1))


@check
def extensions():
    def once(**body):
        return chat(seed=5, temperature=1, extra_body=body).choices[0].message.content

    for body in (
        {"typical_p": 0.5}, {"top_n_sigma": 1}, {"xtc_probability": 1}, {"dry_multiplier": 2}, {"mirostat": 2, "mirostat_tau": 2},
        {"dynatemp_range": 0.5}, {"samplers": ["top_k", "temperature"], "top_k": 4}, {"min_p": 0.1, "repeat_penalty": 1.2},
    ):
        assert once(**body) == once(**body), body
    allowed = chat(extra_body={"allowed_token_ids": [100, 101], "return_token_ids": True, "ignore_eos": True}).choices[0]
    assert set(allowed.token_ids) <= {100, 101}
    e = raises(openai.BadRequestError, lambda: chat(extra_body={"mirostat": 1}))
    assert e.param == "mirostat"
    drawn = chat(logprobs=True, extra_body={"logprobs_mode": "processed_logprobs"}).choices[0]
    assert all(entry.logprob == 0 for entry in drawn.logprobs.content)  # greedy


@check
def full_queue():
    tight = openai.OpenAI(base_url=os.environ["ROUNDHOUSE_TIGHT_URL"] + "/v1", api_key="none", max_retries=0, timeout=120)
    ask = lambda: tight.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=1000, stream=True, extra_body={"ignore_eos": True})
    running, waiting = ask(), ask()
    next(iter(running))
    e = raises(openai.RateLimitError, ask)
    assert e.code == "queue_full" and int(e.response.headers["retry-after"]) >= 1
    running.close()
    next(iter(waiting))
    waiting.close()


@check
def completions_of_text_and_ids():
    r = text(extra_body={"return_token_ids": True})
    ids = r.choices[0].prompt_token_ids
    again = text(prompt=ids)
    assert r.choices[0].text == again.choices[0].text
    several = text(prompt=[ids, ids[:2]])
    assert several.choices[0].text == r.choices[0].text and len(several.choices) == 2
    assert [c.text for c in text(prompt=["Once upon a time", "The"]).choices][0] == r.choices[0].text
    assert len(r.choices[0].token_ids) == r.usage.completion_tokens


@check
def completions_stream():
    joined = "".join(c.choices[0].text for c in text(stream=True) if c.choices)
    assert joined == text().choices[0].text


@check
def chat_logprobs():
    r = chat(logprobs=True, top_logprobs=3)
    content = r.choices[0].logprobs.content
    assert len(content) == r.usage.completion_tokens
    for entry in content:
        assert len(entry.top_logprobs) == 3 and entry.logprob <= 0
        assert entry.token == entry.top_logprobs[0].token  # greedy
    assert bytes(b for e in content for b in e.bytes).decode() == r.choices[0].message.content


@check
def echo_scores_a_text():
    made = text(logprobs=2, max_tokens=6)
    whole = "Once upon a time" + made.choices[0].text
    scored = text(prompt=whole, echo=True, logprobs=2, max_tokens=0).choices[0]
    assert scored.text == whole
    n = len(scored.logprobs.tokens)
    assert n == len(scored.logprobs.token_logprobs) == len(scored.logprobs.top_logprobs)
    assert scored.logprobs.token_logprobs[0] is None
    if scored.logprobs.tokens[-6:] == made.choices[0].logprobs.tokens:
        for a, b in zip(scored.logprobs.token_logprobs[-6:], made.choices[0].logprobs.token_logprobs):
            assert abs(a - b) < 0.01, (a, b)  # prefill and decode round differently


@check
def stop_text():
    whole = chat(max_tokens=30).choices[0].message.content
    for stop in (whole[10:14], whole[5:7]):
        r = chat(max_tokens=30, stop=stop).choices[0]
        assert r.message.content == whole[: whole.index(stop)] and r.finish_reason == "stop"
        streamed = chat(max_tokens=30, stop=["never said", stop], stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in streamed) == r.message.content


@check
def seeds_repeat():
    def once(seed):
        return chat(seed=seed, temperature=1.5, max_tokens=24).choices[0].message.content

    assert once(7) == once(7)
    assert len({once(s) for s in range(5)}) > 1
    drawn = chat(temperature=1.5, max_tokens=24)
    assert once(drawn.roundhouse["seed"]) == drawn.choices[0].message.content


@check
def control_tokens_are_text():
    [end] = text(prompt="<|im_end|>", extra_body={"return_token_ids": True}).choices[0].prompt_token_ids

    def ends(content):
        r = chat(messages=[{"role": "user", "content": content}], extra_body={"return_token_ids": True}, max_tokens=1)
        return r.prompt_token_ids.count(end)

    assert ends("a<|im_end|>b") == ends("ab") == 1


@check
def error_classes():
    e = raises(openai.NotFoundError, lambda: chat(model="gpt-4"))
    assert e.code == "model_not_found" and MODEL in e.message
    raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-4"))
    e = raises(openai.BadRequestError, lambda: text(prompt="word " * 300_000))
    assert e.code == "context_length_exceeded" and e.body["n_prompt"] > e.body["n_ctx"]
    e = raises(openai.BadRequestError, lambda: chat(temperature=3))
    assert e.param == "temperature"
    e = raises(openai.BadRequestError, lambda: chat(response_format={"type": "json_object"}))
    assert e.param == "response_format"
    keyed = os.environ["ROUNDHOUSE_KEYED_URL"] + "/v1"
    wrong = openai.OpenAI(base_url=keyed, api_key="wrong", max_retries=0)
    raises(openai.AuthenticationError, lambda: wrong.models.list())
    right = openai.OpenAI(base_url=keyed, api_key=os.environ["ROUNDHOUSE_KEY"], max_retries=0)
    assert [m.id for m in right.models.list()] == [MODEL]


@check
def cancelled_stream_frees_the_server():
    start = time.monotonic()
    chat(max_tokens=4)
    alone = time.monotonic() - start
    streams = [chat(max_tokens=2000, stream=True, extra_body={"ignore_eos": True}) for _ in range(4)]
    for s in streams:
        next(iter(s))
        s.close()
    time.sleep(1)
    start = time.monotonic()
    chat(max_tokens=4)
    after = time.monotonic() - start
    assert after < 5 * alone + 1, f"{after:.2f} s after cancelled streams, {alone:.2f} s alone"


@check
def async_client():
    import asyncio

    async def both():
        async with openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0) as c:
            ask = lambda: c.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, temperature=0)
            return await asyncio.gather(ask(), ask())

    a, b = asyncio.run(both())
    assert a.choices[0].message.content == b.choices[0].message.content == chat().choices[0].message.content


def main():
    failed = 0
    for f in checks:
        try:
            f()
            print("PASS python", f.__name__, flush=True)
        except Exception as e:  # each check reports, whatever it met
            failed += 1
            print("FAIL python", f.__name__, f"{type(e).__name__}: {e}"[:400], flush=True)
    print(f"openai {openai.__version__}: {len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(failed > 0)


main()
