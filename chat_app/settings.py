"""Every option of the service in one frozen model.

Sources, the strongest first: flags of the command line, ``FEEDBACK_CHAT_*`` environment variables
with ``__`` between levels (``FEEDBACK_CHAT_CYCLE__MIN_COMPARISONS=100``), ``config.toml`` in the
data directory or the file given by ``--config``, then the model's profile (`profile.py`), then the
defaults below, which fit the starter. An unknown name or a value out of range is an error.
`docs/configuration.py` prints the options as a page.
"""

import difflib
import json
import os
import re
import shlex
import tomllib
from base64 import b64decode
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from chat_app.errors import InvalidRequestError
from feedback_store.raters.keys import is_key
from feedback_store.records import HAPPENINGS
from rlhf_core.config import CycleSettings, ReplySettings
from rlhf_core.model.sources import FETCHED

if TYPE_CHECKING:
    from rlhf_core.training.vllm.replica import Servers

Quantization = Literal["auto", "nf4", "int8", "none"]
EngineKind = Literal["local", "vllm"]
Api = Literal["auto", "open", "keys"]
Pages = Literal["auto", "anyone", "known"]
Progress = Literal["visitors", "public", "operator"]
# TOML has lists; an environment variable has names with commas between them, or a list as JSON.
Names = Annotated[tuple[str, ...], NoDecode]
ProfileName = Literal["auto", "starter", "cpu", "gpu"]
MOST_EXAMPLES = 6
LOGOS = (".svg", ".png", ".jpg", ".webp")
TOKEN_CHARS = 16  # fewest in an operator's token that somebody chose
HOST = re.compile(r"\.?[\w-]+(\.[\w-]+)*|[0-9a-fA-F:]+")  # a name, all below it, or an address
ORIGIN = re.compile(r"https?://[\w.-]+(:\d+)?|https?://\[[0-9a-fA-F:]+\](:\d+)?", re.ASCII)
WEBHOOK = re.compile(r"https?://[^\s/?#@]+([/?][^\s#]*)?")  # without a user's name
SERVER = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
# What proxies add. `X-Gradio-Server` is none of theirs, but Gradio would believe it.
FORWARDING = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-gradio-server",
    "x-original-forwarded-for",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
)
OTHER_USE = re.compile("authorization|cookie|host|origin|content-.*|x-feedback-chat-.*")
PREFIX = "FEEDBACK_CHAT_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"  # names the TOML file; not an option itself
DEBUG_VARIABLE = f"{PREFIX}DEBUG"  # shows tracebacks; not an option either


class Section(BaseModel):
    """Base of the nested settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitSettings(Section):
    """Limits of one request."""

    message_chars: int = Field(8_000, ge=1, description="longest message, in characters")
    messages: int = Field(200, ge=1, description="most messages in one request")
    body_bytes: int = Field(256 * 1024, ge=1024, description="largest request body under /v1/")
    page_body_bytes: int = Field(128 * 1024, ge=1024, description="largest other request body")
    new_tokens: int = Field(
        512,
        ge=1,
        description="longest reply that a request gets, whatever its max_tokens, if reply.tokens "
        "is not larger",
    )
    candidates: int = Field(
        9, ge=2, le=9, description="most replies to one prompt: blind ones, or `n` of a completion"
    )
    body_seconds: float = Field(30.0, gt=0, description="time for a request body to arrive")
    reply_seconds: float = Field(60.0, gt=0, description="a reply is cut off after this long")


class RateSettings(Section):
    """How much one rater or address may ask for in a time; a bucket for each."""

    requests_per_minute: float = Field(240, gt=0, description="of one rater; half of it at once")
    address_requests_per_minute: float = Field(
        2400, gt=0, description="of one address; a sixth of it at once"
    )
    tokens_per_minute: float = Field(
        100_000, gt=0, description="of one rater's prompts and replies together"
    )
    votes_per_minute: float = Field(60, gt=0, description="of one rater, rewritten answers too")
    new_raters_per_hour: float = Field(30, gt=0, description="from one address")
    replies_at_once: int = Field(8, ge=1, description="that are written for one rater")


class EngineSettings(Section):
    """The engine, which decodes replies together."""

    kind: EngineKind = Field(
        "local", description="who decodes: `local`: the server itself; `vllm`: servers of vLLM"
    )
    vllm_urls: Names = Field(
        (), description="addresses of these servers, such as `http://127.0.0.1:8000`"
    )
    vllm_key: SecretStr | None = Field(None, description="what they were given as `--api-key`")
    rows: int = Field(
        32, ge=1, description="replies decoded together; with vLLM by all of its servers"
    )
    waiting: int = Field(128, ge=0, description="requests that may wait for a row; more get a 503")
    threads: int = Field(1, ge=1, description="CPU threads of the decoding thread")
    updates_per_second: float = Field(10.0, gt=0, description="most updates of one reply")
    kept_adapters: int = Field(2, ge=2, description="loaded adapters, the served one included")
    pack: bool = Field(
        True,
        description="keep a second copy of the weights of a float32 model, in the order in which a "
        "CPU multiplies them, if a quarter of the free memory holds it: more tokens a second where "
        "several people chat",
    )
    prefix_mb: int = Field(
        256,
        ge=0,
        description="memory for what was read and said, in MB, so that the next turn of a "
        "conversation reads only what is new; 0 reads all of it again",
    )

    @field_validator("vllm_urls", mode="before")
    @classmethod
    def _are_listed(cls, given: Any) -> Any:
        return _listed(given)

    @field_validator("vllm_urls")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not SERVER.fullmatch(url):
                raise ValueError(f"{url!r} is no address; write one such as http://127.0.0.1:8000")
        return tuple(dict.fromkeys(url.rstrip("/").removesuffix("/v1") for url in urls))


class CompareSettings(Section):
    """The page on which people compare blind replies to one prompt."""

    opponents: Literal["none", "base", "adapters"] = Field(
        "none",
        description="who else may write some of the replies, if the person asks for it: `base`: "
        "the model without an adapter; `adapters`: the newest published adapters, too, so many as "
        "`engine.kept_adapters` keeps loaded beside the served one; `none`: nobody",
    )


class ScreeningSettings(Section):
    """A test for people who are to label: questions whose answers the team knows."""

    items: Path | None = Field(
        None, description="file of its questions, as for `gold_items`; each is asked once"
    )
    share: float = Field(
        0.75, gt=0.5, le=1, description="of right answers, from which on it is passed"
    )
    required: bool = Field(
        False,
        description="only votes of people who passed count, and of imported data sets; else all",
    )

    @model_validator(mode="after")
    def _has_questions(self) -> Self:
        if self.required and self.items is None:
            raise ValueError("required needs items, a file of questions; name one")
        return self


class ScheduleSettings(Section):
    """When the server starts a cycle by itself."""

    enabled: bool = Field(True, description="false: only an operator starts cycles")
    new_comparisons: int = Field(
        80,
        ge=1,
        description="start after so much new evidence, in decided votes on different questions "
        "(a tie is half); what the last cycle learnt moves it by half at most",
    )
    every_hours: float = Field(
        24.0, ge=0, description="or after this time, if there is a quarter of it; 0 = never"
    )
    min_hours: float = Field(
        0.25, ge=0, description="shortest time from the start of a cycle to that of the next"
    )
    most_backoff: float = Field(
        8.0,
        ge=1,
        le=64,
        description="each rejection in a row doubles the evidence and the hours, up to so many "
        "times; 1 = never",
    )
    idle_minutes: float = Field(
        0.0, ge=0, description="start only after so long without a message; 0 = at any time"
    )
    most_idle_hours: float = Field(
        6.0, ge=0, description="longest wait for that; then a cycle starts anyway"
    )
    poll_seconds: float = Field(10.0, gt=0, description="time between checks of these conditions")
    niceness: int = Field(10, ge=0, le=19, description="niceness of the cycle's process")
    starved_days: float = Field(
        14.0,
        ge=0,
        description="days without enough votes for a cycle until an alarm says so; 0 = never",
    )


class AlertSettings(Section):
    """Where alarms are sent, as JSON; without an address or a command they are shown only."""

    webhook: SecretStr | None = Field(
        None, description="address that gets each alarm by POST; http or https"
    )
    command: str | None = Field(
        None, description="program with its arguments that gets each alarm on stdin; no shell"
    )
    seconds: float = Field(10.0, gt=0, le=60, description="longest time for one of the two")
    installation: str = Field(
        "", description="the service's name in alarms; empty = the name of this machine"
    )

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is not None and not WEBHOOK.fullmatch(webhook.get_secret_value()):
            raise ValueError("write an address such as https://hooks.example.org/name")
        return webhook

    @field_validator("command")
    @classmethod
    def _can_be_split(cls, command: str | None) -> str | None:
        if command is None:
            return None
        try:
            words = shlex.split(command)
        except ValueError as exc:
            raise ValueError(f"{exc}; write it as in a shell") from None
        if not words:
            raise ValueError("name a program, or leave the option out")
        return command


class WebhookSettings(Section):
    """A program that is told what happens, by signed requests; as in Standard Webhooks."""

    url: SecretStr = Field(description="its address; http or https")
    secret: SecretStr = Field(
        description="what requests are signed with: 24 to 64 bytes as base64, after `whsec_` or not"
    )
    kinds: Names = Field(
        HAPPENINGS, description="what it is told of: kinds of votes, `alarm`, `cycle`, `served`"
    )
    text: bool = Field(
        False, description="whether it gets what people wrote, and why a cycle failed"
    )
    seconds: float = Field(10.0, gt=0, le=60, description="longest time for a request")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: SecretStr) -> SecretStr:
        if not WEBHOOK.fullmatch(url.get_secret_value()):
            raise ValueError("write an address such as https://hooks.example.org/name")
        try:
            _ = urlsplit(url.get_secret_value()).port
        except ValueError:
            raise ValueError("its port must be from 0 to 65535") from None
        return url

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, secret: SecretStr) -> SecretStr:
        if not 24 <= len(_webhook_key(secret)) <= 64:
            raise ValueError("write 24 to 64 bytes as base64; `openssl rand -base64 32` makes some")
        return secret

    @field_validator("kinds", mode="before")
    @classmethod
    def _are_listed(cls, given: Any) -> Any:
        return _listed(given)

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if not kinds:
            raise ValueError("name some kinds, or leave `kinds` out for all of them")
        for kind in kinds:
            if kind not in HAPPENINGS:
                raise ValueError(f"there is no kind {kind!r}; use some of {', '.join(HAPPENINGS)}")
        return kinds

    @property
    def key(self) -> bytes:
        """The secret's bytes."""
        return _webhook_key(self.secret)


class LogSettings(Section):
    """The server's log, on stderr."""

    format: Literal["text", "json"] = Field(
        "text", description="`text`: lines for people; `json`: one JSON object a line"
    )
    requests: bool = Field(
        False, description="a line for each HTTP request and each reply, without their texts"
    )


class BackupSettings(Section):
    """The backups that the server, or `feedback-chat backup` without a folder, makes."""

    folder: Path | None = Field(
        None,
        description="where they go, best on another disk; not set: `backups` in the data directory",
    )
    every_hours: float = Field(
        24.0,
        ge=0,
        description="the server makes one when the last verified one is so old; 0 = never",
    )
    keep_days: int = Field(
        7, ge=1, description="of so many days with backups the last of each is kept"
    )
    keep_weeks: int = Field(
        4, ge=0, description="of so many weeks with backups the last of each is kept"
    )


class BrandSettings(Section):
    """What makes the pages an operator's own."""

    name: str = Field("feedback-chat", min_length=1, max_length=60, description="of the service")
    logo: Path | None = Field(
        None, description="image beside the name and in the tab: `.svg`, `.png`, `.jpg` or `.webp`"
    )
    accent: str | None = Field(
        None,
        pattern="^#[0-9a-fA-F]{6}$",
        description="colour of buttons and links, such as `#7c3aed`; it is made darker or lighter "
        "where it could not be read",
    )
    welcome: str | None = Field(None, max_length=200, description="heading of an empty chat")
    about: str | None = Field(
        None, max_length=300, description="what the service is, below the heading and for links"
    )
    examples: Names = Field((), description="first messages to choose from, at most six")
    notice: str | None = Field(
        None, max_length=500, description="what visitors must know before they write, below the box"
    )
    policy: str | None = Field(
        None, pattern=r"^https?://\S+$", description="address of the privacy policy"
    )

    @field_validator("examples", mode="before")
    @classmethod
    def _are_a_list(cls, given: Any) -> Any:
        return _listed(given)

    @field_validator("examples")
    @classmethod
    def _are_few(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if len(given) > MOST_EXAMPLES:
            raise ValueError(f"{len(given)} examples; give at most {MOST_EXAMPLES}")
        return given

    @field_validator("logo")
    @classmethod
    def _is_an_image(cls, given: Path | None) -> Path | None:
        if given is not None and given.suffix.lower() not in LOGOS:
            raise ValueError(f"{given} is no image of a kind that we show: {', '.join(LOGOS)}")
        if given is not None and not given.is_file():
            raise ValueError(f"there is no file {given}")
        return given


class Settings(BaseSettings):
    """The options of one command, from all sources."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )
    toml_file: ClassVar[Path | None] = None
    flags: ClassVar[frozenset[str]] = frozenset()  # options of the command line, as `engine.kind`

    data: Path = Field(Path("data"), description="data directory")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(7860, ge=0, le=65535, description="0 = any free port")
    hosts: Names = Field(
        (),
        description="names under which browsers may reach the service, such as `chat.example.org`; "
        "`.example.org` for all below it; this machine's names always, and any numeric address if "
        "`host` is not this machine",
    )
    origins: Names = Field(
        (),
        description="origins whose pages may call the API from a browser with a key or a token, "
        "such as `https://app.example.org`; never the operator's routes, never with a cookie",
    )
    proxies: Names = Field(
        (), description="addresses or networks of proxies whose forwarding headers are believed"
    )
    user_header: str | None = Field(
        None,
        description="header in which these proxies name the user of each request, such as "
        "`X-Forwarded-User`, which they must set or remove on every request; that of anybody else "
        "is removed",
    )
    access: Api = Field(
        "auto",
        description="who may use the API: `keys`: who has a key, or whom a proxy names; `open`: "
        "anyone, by any bearer token; `auto`: `open` if `host` is this machine, else `keys`",
    )
    pages: Pages = Field(
        "auto",
        description="who may open the chat page: `known`: whom a proxy names; `anyone`; `auto`: "
        "`anyone` if `host` is this machine, else `known`",
    )
    progress: Progress = Field(
        "visitors",
        description="who may see `/progress` and `/values`, which quote no visitor and name none: "
        "`visitors`: who may open the chat page; `public`: everybody, without a cookie; "
        "`operator`: the operator alone",
    )
    root_path: str = Field(
        "",
        description="path below which a proxy shows the service, such as `/chat`",
    )
    model: str = Field(
        "starter",
        description="`starter`, `smollm2` once it is fetched, a GGUF file, a directory with a "
        "model or a PEFT adapter, or an id on the Hugging Face hub",
    )
    profile: ProfileName = Field(
        "auto",
        description="where the values come from that nobody set: `starter` (the defaults below), "
        "`cpu`, `gpu`, or whichever fits; it chooses no device; `feedback-chat plan` shows them",
    )
    quantization: Quantization = Field(
        "auto",
        description="weights of the base in memory; `auto`: nf4 for the starter and on a GPU, on a "
        "CPU `none` if they fit",
    )
    candidates_every: int = Field(
        3, ge=0, description="every n-th turn on the page shows two replies; 0 = never"
    )
    choices: Literal["random", "active"] = Field(
        "random",
        description="which replies the page and `POST /v1/candidates` show when two are asked for: "
        "`random`: any two; `active`: of `active_samples` the two of which it is most uncertain "
        "which one people prefer, in `active_share` of the cases",
    )
    active_share: float = Field(
        0.5, ge=0, lt=1, description="share of the side-by-sides that lots do not choose"
    )
    active_samples: int = Field(
        4, ge=3, le=8, description="replies that are sampled, of which two are shown"
    )
    markdown: bool | None = Field(
        None,
        description="true: the page shows messages as Markdown; false: as plain text; not set: "
        "plain text for the starter, Markdown for any other model",
    )
    gold_items: Path | None = Field(None, description="file of gold questions, to test raters")
    gold_every: int = Field(
        20, ge=0, description="one gold question after every n-th choice of a rater; 0 = never"
    )
    consent_version: str = Field("1", description="version of the notice that visitors accept")
    operator_token: SecretStr | None = Field(
        None, description="16 characters or more; default: made at the first start"
    )
    watch_seconds: float = Field(0.5, gt=0, description="time between reads of the served adapter")
    allow_old_sqlite: bool = Field(
        False, description="open the store with SQLite before 3.51.3, which can corrupt it"
    )
    reply: ReplySettings = ReplySettings()
    limits: LimitSettings = LimitSettings()
    rates: RateSettings = RateSettings()
    engine: EngineSettings = EngineSettings()
    compare: CompareSettings = CompareSettings()
    screening: ScreeningSettings = ScreeningSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    webhooks: tuple[WebhookSettings, ...] = Field(
        (), description="programs that are told what happens; a table `[[webhooks]]` for each"
    )
    backups: BackupSettings = BackupSettings()
    brand: BrandSettings = BrandSettings()
    cycle: CycleSettings = CycleSettings()

    @field_validator("webhooks", mode="before")
    @classmethod
    def _is_a_table_for_each(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            raise ValueError("write [[webhooks]], a table for each; in a variable, a JSON list")
        return given

    @field_validator("webhooks")
    @classmethod
    def _differ(cls, webhooks: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
        if len({one.url.get_secret_value() for one in webhooks}) < len(webhooks):
            text = "two tables have the same url; write one, and all that it is told of in kinds"
            raise ValueError(text)
        return webhooks

    @field_validator("hosts", "origins", "proxies", mode="before")
    @classmethod
    def _is_a_list(cls, given: Any) -> Any:
        return _listed(given)

    @field_validator("hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no name of a host; leave out scheme, port and path")
        return hosts

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                text = "write each whole and without a path, such as https://app.example.org"
                raise ValueError(f"{origin!r} is no origin; {text}")
        return origins

    @field_validator("proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                everybody = ip_network(proxy).prefixlen == 0
            except ValueError:
                raise ValueError(
                    f"{proxy!r} is no address or network, such as 127.0.0.1 or 172.16.0.0/12"
                ) from None
            if everybody:
                raise ValueError(f"{proxy!r} is everybody; name the addresses of your proxies")
        return proxies

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        if not re.fullmatch(r"(/[\w.~-]+)*", path):
            raise ValueError("begin with / and do not end with it, such as /chat")
        return path

    @field_validator("user_header")
    @classmethod
    def _is_set_by_a_proxy(cls, header: str | None, info: ValidationInfo) -> str | None:
        if header is None:
            return None
        if not re.fullmatch(r"[A-Za-z0-9-]+", header):
            raise ValueError("a header's name has letters, digits and hyphens only")
        if header.lower() in FORWARDING or OTHER_USE.fullmatch(header.lower()):
            raise ValueError("this header has another use; choose one of its own")
        if not info.data.get("proxies"):
            text = "anybody could set it; name the addresses of your proxies in the option proxies"
            raise ValueError(text)
        return header

    @field_validator("operator_token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token) < TOKEN_CHARS:
            text = "the token is too short; use 16 characters or more that nobody guesses"
            raise ValueError(text)
        if token is not None and is_key(token.get_secret_value()):
            text = "the token has the form of a key; choose another text"
            raise ValueError(text)
        return token

    @model_validator(mode="after")
    def _has_the_servers_that_it_uses(self) -> Self:
        if ("vllm" in (self.engine.kind, self.cycle.policy.generation)) != bool(
            self.engine.vllm_urls
        ):
            raise ValueError(
                "the addresses in engine.vllm_urls go together with engine.kind 'vllm' or "
                "cycle.policy.generation 'vllm'; give the addresses and one of these, or none"
            )
        return self

    @model_validator(mode="after")
    def _can_doubt(self) -> Self:
        if self.choices == "active" and self.engine.kind == "vllm":
            raise ValueError(
                "choices 'active' asks the base itself, which engine.kind 'vllm' does not offer; "
                "use choices 'random'"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file; no dotenv, no secrets directory."""
        file = TomlConfigSettingsSource(settings_cls, cls.toml_file)
        return init_settings, env_settings, file

    @property
    def servers(self) -> "Servers | None":
        """Where vLLM is, for the engine and for cycles; None if neither uses it."""
        from rlhf_core.training.vllm.replica import Servers

        key = self.engine.vllm_key
        told = key.get_secret_value() if key else None
        return Servers(self.engine.vllm_urls, told) if self.engine.vllm_urls else None

    @property
    def packing(self) -> Literal["nf4", "int8", "none"]:
        """The quantization, after `with_profile` has replaced `auto`."""
        if self.quantization == "auto":
            raise ValueError("the quantization is still 'auto'; apply `with_profile` first")
        return self.quantization

    @property
    def contract(self) -> dict[str, Any]:
        """By option, what a server and the cycles on its votes share beside the model.

        As for `packing`, `with_profile` comes first.
        """
        reply = {f"reply.{name}": value for name, value in self.reply.model_dump().items()}
        return {"quantization": self.packing, **reply}

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.data / "feedback.db"

    @property
    def backup_folder(self) -> Path:
        """Where backups without a folder of their own go."""
        return self.backups.folder or self.data / "backups"

    @property
    def adapters(self) -> Path:
        """Where cycles publish adapters."""
        return self.data / "adapters"

    @property
    def models(self) -> Path:
        """Models that were fetched or converted; all of it can be made again."""
        return self.data / "models"

    @property
    def model_name(self) -> str:
        """The model's name wherever it is read: a path is absolute."""
        if self.model in ("starter", *FETCHED):  # whatever the working directory holds
            return self.model
        path = Path(self.model)
        return str(path.resolve()) if path.exists() else self.model

    @property
    def is_starter(self) -> bool:
        """Whether the model is the embedded one, which knows its own small world only."""
        return self.model == "starter"

    @property
    def shows_markdown(self) -> bool:
        """Whether the page shows messages as Markdown; the starter writes plain text."""
        return not self.is_starter if self.markdown is None else self.markdown

    @property
    def secrets(self) -> Path:
        """The folder of keys; only this user can read it."""
        return self.data / "secrets"


def _webhook_key(secret: SecretStr) -> bytes:
    """The bytes of a webhook's secret; none if it is not base64."""
    try:
        return b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except ValueError:
        return b""


def _listed(given: Any) -> Any:
    """Names as TOML has them, or from a variable: with commas between them, or as JSON."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError('write ["one", "another"], or one,another') from None
    return [name.strip() for name in given.split(",") if name.strip()]


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings from all sources; a flag that is None was not given.

    Raises:
        InvalidRequestError: An option is unknown or out of range, or the file cannot be read.
    """
    _check_environment()
    given = {name: value for name, value in flags.items() if value is not None}
    if config is None and CONFIG_VARIABLE in os.environ:
        config = Path(os.environ[CONFIG_VARIABLE])
    file = config or _data_directory(given) / "config.toml"
    if config is not None and not config.is_file():
        raise InvalidRequestError(f"no configuration file {config}; give an existing TOML file")
    known = {"toml_file": file, "flags": _dotted(given), "__module__": __name__}
    resolved = type("Settings", (Settings,), known)
    try:
        settings: Settings = resolved(**given)
    except ValidationError as exc:
        raise _error_of(exc, file) from exc
    except SettingsError as exc:
        raise InvalidRequestError(f"an option cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequestError(f"{file} is not valid TOML: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(
            f"{file} is not UTF-8 at byte {exc.start} (0x{exc.object[exc.start]:02x}); "
            "save it as UTF-8"
        ) from exc
    except OSError as exc:
        raise InvalidRequestError(
            f"cannot read {file}: {exc.strerror}; give a TOML file that this user may read"
        ) from exc
    return settings


def _check_environment() -> None:
    """Refuse misspelled variables; pydantic checks the names of nested options."""
    options = [name.upper() for name in Settings.model_fields]
    for variable in os.environ:
        prefix, name = variable[: len(PREFIX)].upper(), variable[len(PREFIX) :].upper()
        option = name.split("__")[0]
        if prefix != PREFIX or option in options or variable in (CONFIG_VARIABLE, DEBUG_VARIABLE):
            continue
        close = difflib.get_close_matches(option, [*options, "CONFIG", "DEBUG"], n=1)
        meant = f"did you mean {PREFIX}{close[0]}?" if close else "unset it, or correct its name"
        raise InvalidRequestError(f"the environment variable {variable} names no option; {meant}")


def _dotted(flags: dict[str, Any]) -> frozenset[str]:
    """The names of the options that flags set; those of a section have its name before a dot."""
    sections = {name: value for name, value in flags.items() if isinstance(value, dict)}
    below = {f"{section}.{name}" for section, named in sections.items() for name in named}
    return frozenset(flags.keys() - sections.keys() | below)


def _data_directory(flags: dict[str, Any]) -> Path:
    return Path(flags.get("data") or os.environ.get("FEEDBACK_CHAT_DATA") or "data")


def _error_of(error: ValidationError, file: Path) -> InvalidRequestError:
    """The first fault of settings, in one line."""
    first = min(error.errors(), key=lambda fault: fault["type"] == "missing")  # perhaps misspelled
    path = [str(part) for part in first["loc"]]
    name, kind, hooks = ".".join(path), first["type"], path[:1] == ["webhooks"]
    where = f" in {file}" if _is_in(path[:-1] if kind == "missing" else path, file) else ""
    said = first["msg"].removeprefix("Value error, ")
    secret = ("operator_token", "alerts.webhook", "engine.vllm_key")
    if not path:  # options that do not go together; among them may be secret ones
        return InvalidRequestError(said)
    hidden = name in secret or (hooks and path[-1] != "kinds")
    if hidden and kind != "extra_forbidden":  # its value must not be shown
        return InvalidRequestError(f"option {name!r}{where}: {said}")
    if kind != "extra_forbidden":
        return InvalidRequestError(
            f"option {name!r}{where}: {said}, got {first['input']!r}; its values are in "
            "docs/configuration.md"
        )
    known = _names(WebhookSettings, f"webhooks.{path[1]}.") if hooks else _names(Settings)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    meant = f"did you mean {close[0]!r}?" if close else "docs/configuration.md has all of them"
    return InvalidRequestError(f"there is no option {name!r}{where}; {meant}")


def _is_in(path: list[str], file: Path) -> bool:
    """Whether a file that could be read has an option; else the environment or a flag has it."""
    if not file.is_file():
        return False
    found: Any = tomllib.loads(file.read_text())
    for part in path:
        if isinstance(found, list):  # tables `[[webhooks]]`, by their place
            found = dict(zip(map(str, range(len(found))), found, strict=True))
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def _names(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every option of a section and of those in it, such as `cycle.policy.batch_size`."""
    names = []
    for name, option in section.model_fields.items():
        names.append(f"{prefix}{name}")
        if isinstance(option.annotation, type) and issubclass(option.annotation, BaseModel):
            names += _names(option.annotation, f"{prefix}{name}.")
    return names
