"""What brings tasks in besides senders: schedules and signed webhooks, as scriptrules.toml has them.

Checked when the configuration is read, so that a schedule that never fires or a hook without a secret is an error
then, and not silence later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from scriptrules import cron
from scriptrules.cron import CatchUp
from scriptrules.errors import ConfigError
from scriptrules.model import NAME, NAME_MAX

Scheme = Literal["github", "stripe", "standard", "hmac"]


class ScheduleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[schedules]]``: a task that is sent at times."""

    task: str
    cron: str
    name: str = ""  # which one it is; default: the name of its task
    data: dict[str, Any] = {}
    timezone: str = ""  # default: that of [flow]
    catch_up: CatchUp = "last"  # which of the times are made up for at which no server was there

    @property
    def title(self) -> str:
        return self.name or self.task


class HookConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[hooks.NAME]``: what ``POST /hooks/NAME`` accepts, and the task that it becomes."""

    scheme: Scheme
    secret: str = ""
    secret_env: str = ""  # the environment variable that has it
    secret_file: str = ""  # the file that has it
    secret_variable: str = ""  # the secret, as `scriptrules var set --secret` keeps it, that has it
    task: str = ""  # default: webhook.NAME
    headers: list[str] = []  # headers of the request that the task gets, as its field `headers`
    tolerance: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300  # seconds that a signed time may be off
    signature_header: str = ""  # for "hmac": the header with the signature, in hexadecimal digits
    id_header: str = ""  # for "hmac": the header that names the delivery
    event_header: str = ""  # for "hmac": the header that names the event


SECRETS = ("secret", "secret_env", "secret_file", "secret_variable")
HMAC_ONLY = ("signature_header", "id_header", "event_header")


def check_schedules(schedules: Iterable[ScheduleConfig], timezone: str, where: str) -> None:
    """Raises ConfigError with what is wrong with a schedule, and with `timezone`, the zone of all others."""
    if cron.zone_of(timezone) is None:
        raise ConfigError(f"{where}: [flow] timezone = {timezone!r} is no time zone. Write one like Europe/Berlin.")
    titles: set[str] = set()
    for schedule in schedules:
        place = f"{where}: [[schedules]] {schedule.title!r}"
        problem = cron.problem_of(schedule.cron)
        if problem is not None:
            raise ConfigError(
                f"{place}: cron = {schedule.cron[:80]!r} {problem.rstrip('.')}. Write minute, hour, day of the month, "
                f'month and day of the week: "0 2 * * *".'
            )
        if not is_name(schedule.task):
            raise ConfigError(f"{place}: {schedule.task[:80]!r} is not the name of a task. Write nightly.start.")
        if schedule.timezone and cron.zone_of(schedule.timezone) is None:
            raise ConfigError(f"{place}: {schedule.timezone!r} is no time zone. Write one like Europe/Berlin.")
        if schedule.title in titles:
            raise ConfigError(f"{place}: there are two of this name. Give each a name = of its own.")
        titles.add(schedule.title)


def check_hooks(hooks: Mapping[str, HookConfig], where: str) -> None:
    """Raises ConfigError with what is wrong with a hook; its secret is looked for when the server starts."""
    for name, hook in hooks.items():
        place = f"{where}: [hooks.{name}]"
        if not is_name(hook.task or f"webhook.{name}"):
            raise ConfigError(
                f"{place}: {hook.task or f'webhook.{name}'!r} is not the name of a task. Set task = to one."
            )
        given = [secret for secret in SECRETS if getattr(hook, secret)]
        if len(given) != 1:
            raise ConfigError(
                f"{place}: it needs one of {', '.join(SECRETS)}, and has {' and '.join(given) or 'none'}."
            )
        useless = [field for field in HMAC_ONLY if getattr(hook, field) and hook.scheme != "hmac"]
        if useless:
            raise ConfigError(f'{place}: {useless[0]} is for scheme = "hmac"; {hook.scheme} has headers of its own.')
        if hook.scheme == "hmac" and not hook.signature_header:
            raise ConfigError(f'{place}: scheme = "hmac" needs signature_header, such as "X-Signature-256".')


def secret_of(name: str, hook: HookConfig, base: Path) -> str:
    """The secret of a hook, where it is no variable: those are read for each delivery.

    Raises:
        ConfigError: there is none where it says.
    """
    place = f"[hooks.{name}]"
    secret = hook.secret
    if hook.secret_env:
        secret = os.environ.get(hook.secret_env, "")
        if not secret:
            raise ConfigError(
                f"{place}: the environment variable {hook.secret_env} is not set. Set it, and start again."
            )
    elif hook.secret_file:
        try:
            secret = Path(base, hook.secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{place}: secret_file {hook.secret_file} cannot be read: {error}.") from None
        if not secret:
            raise ConfigError(f"{place}: secret_file {hook.secret_file} is empty. Put the secret into it.")
    return secret


def is_name(name: str) -> bool:
    """Whether a task can have this name."""
    return len(name) <= NAME_MAX and NAME.match(name) is not None
