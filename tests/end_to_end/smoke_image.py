"""Run the image as it should be run, closed as far as it goes, and use it: `make smoke-image`.

The container has no network, no rights and a file system that is only read, but for its volume.
Whoever speaks to it does so from within. It needs docker or podman, and nothing but Python itself.

Run: python3 tests/end_to_end/smoke_image.py [IMAGE]
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

ENGINE = os.environ.get("ENGINE") or shutil.which("docker") or shutil.which("podman") or "docker"
NAME = f"feedback-chat-smoke-{os.getpid()}"
CLOSED = ["--read-only", "--network", "none", "--cap-drop", "ALL"]
CLOSED += ["--security-opt", "no-new-privileges", "-v", f"{NAME}:/data"]
CLOSED += ["--read-only-tmpfs=false"] if "podman" in ENGINE else []
STOP_S = 10  # after which docker and podman kill
ASK = """
import sys, urllib.request
method, path, body = sys.argv[1:]
headers = {"Authorization": "Bearer smoke", "Content-Type": "application/json"}
address = f"http://127.0.0.1:7860{path}"
asked = urllib.request.Request(address, body.encode() or None, headers, method=method)
print(urllib.request.urlopen(asked, timeout=60).read().decode())
"""

HALF = """
import socket, time
connection = socket.create_connection(("127.0.0.1", 7860))
head = "POST /v1/feedback HTTP/1.1", "Host: 127.0.0.1", "Authorization: Bearer smoke"
rest = "Content-Type: application/json", "Content-Length: 99", "", "{"
connection.sendall("\\r\\n".join(head + rest).encode())
time.sleep(60)
"""


def engine(*words: str, check: bool = True) -> str:
    done = subprocess.run([ENGINE, *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout.strip()


def within(*words: str, check: bool = True) -> str:
    return engine("exec", NAME, *words, check=check)


def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    said = within("python", "-c", ASK, method, path, json.dumps(body) if body else "")
    return json.loads(said) if said.startswith("{") else said


def until(holds: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {seconds} s: {engine('logs', NAME)}")
        time.sleep(0.5)


def require(holds: object, what: str) -> None:
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


def is_ready() -> bool:
    return '"ready":true' in within("python", "-c", ASK, "GET", "/readyz", "", check=False)


def check_image(image: str) -> list[str]:
    """What the image says of itself; returns its health check."""
    facts = json.loads(engine("image", "inspect", image))[0]
    config, labels = facts["Config"], facts["Config"]["Labels"]
    print(f"{image}: {facts['Size'] / 1e9:.2f} GB, {facts['Architecture']}", flush=True)
    require(config["User"] not in ("", "root", "0"), f"it runs as {config['User']}")
    title, revision = "org.opencontainers.image.title", "org.opencontainers.image.revision"
    require(labels[title] == "feedback-chat" and labels[revision], "it has labels")
    health = config.get("Healthcheck") or facts["Healthcheck"]  # docker's place, and podman's
    return [*health["Test"][1:]]


def check_use(health: list[str]) -> str:
    """Chat and vote, beside what must not be possible; returns the id of the answer."""
    until(is_ready, 120, "being ready")
    within(*health)
    print("ok: the health check passes", flush=True)
    for place in ("/tmp/x", "/opt/feedback-chat/x", "/x"):
        require("no" in within("sh", "-c", f"touch {place} || echo no"), f"no write to {place}")
    require(not within("sh", "-c", "which gcc cc c++ make || true"), "no compiler")
    body = {"model": "policy", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    answer = ask("POST", "/v1/chat/completions", body)
    require(answer["choices"][0]["message"]["content"], "it answers")
    vote = {"message_id": answer["id"], "thumb": "up", "idempotency_key": "smoke"}
    require(ask("POST", "/v1/feedback", vote), "it takes a vote")
    return str(answer["id"])


def check_stop() -> None:
    """`stop` while replies are written and half a request has come: it ends in time, by itself."""
    body = {"model": "policy", "stream": True, "max_tokens": 400}
    body |= {"messages": [{"role": "user", "content": "Tell me a long story."}]}
    asking = [ASK, "POST", "/v1/chat/completions", json.dumps(body)]
    writers = [
        threading.Thread(target=within, args=("python", "-c", *words), kwargs={"check": False})
        for words in (asking, asking, asking, [HALF])
    ]
    for writer in writers:
        writer.start()
    time.sleep(2)
    began = time.monotonic()
    engine("stop", NAME)
    seconds = time.monotonic() - began
    state = json.loads(engine("container", "inspect", NAME))[0]["State"]
    require(
        seconds < STOP_S and state["ExitCode"] != 137,
        f"it stops in {seconds:.1f} s with exit code {state['ExitCode']}",
    )
    for writer in writers:
        writer.join()


def check_kept(answer: str) -> None:
    """After a restart the vote is there, also in a backup that is restored."""
    engine("start", NAME)
    until(is_ready, 120, "being ready again")
    require(answer in json.dumps(ask("GET", "/v1/me")), "the answer is there after a restart")
    require("1 thumbs" in counts("/data"), "and so is the vote")
    made = json.loads(within("feedback-chat", "backup", "--json"))["backup"]
    within("feedback-chat", "restore", made, "--data", "/data/restored")
    require("1 thumbs" in counts("/data/restored"), f"and in what is restored from {made}")


def counts(data: str) -> str:
    facts = json.loads(within("feedback-chat", "status", "--json", "--data", data))
    return ", ".join(f"{count} {name}" for name, count in facts["counts"].items())


def main() -> None:
    image = sys.argv[1] if len(sys.argv) > 1 else "feedback-chat:cpu"
    health = check_image(image)
    engine("volume", "create", NAME)
    try:
        engine("run", "-d", "--name", NAME, *CLOSED, image)
        answer = check_use(health)
        check_stop()
        check_kept(answer)
        engine("stop", NAME)
    finally:
        engine("rm", "-f", "-v", NAME, check=False)
        engine("volume", "rm", NAME, check=False)
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
