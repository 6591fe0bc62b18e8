"""Limits of many processes and machines: the script in Redis, and what is done while Redis is away.

    reserve ─▶ wire ─▶ gcra.lua            one round trip; a late or failed answer gives the connection up, and then
       │                                   on no call waits for Redis until it is back
       └─▶ the policy: open · closed · local
    settle ─▶ queue ─▶ wire                kept until Redis says that it has it; sent again under the same number

A process' lease is its owner's, and an owner never outlives its connection: what Redis still gets to read of an old
connection comes too late to count.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import Any

import hiredis

from gateway.limits import script
from gateway.limits.fallback import Fallback
from gateway.limits.gcra import UnknownOwner
from gateway.limits.nodes import CLUSTER_SLOTS, Nodes
from gateway.limits.rules import Amounts, Kind, Rule
from gateway.limits.script import Keys, RuleSet, Settlement
from gateway.limits.store import Policy, Reservation, StoreObserver
from gateway.limits.wire import Address, Lost, Wire, ask, connect, reason_of

log = logging.getLogger(__name__)

MAX_UNSETTLED = 200_000
"""Settlements kept while Redis is away: some 100 MB. Beyond it the oldest are lost, and counted."""
WINDOW = 512
"""Settlements on their way at once: a backlog must not make Redis late for the calls of now."""
MOVES = 3
"""Nodes of a cluster that are asked at the start: the first names the right one."""
RETRY_S = (0.05, 1.0)
"""Between attempts to connect: the first gap and the longest."""


class RedisLimits:
    """The LimitStore of a gateway with several processes."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        prefix: str,
        policy: Policy,
        timeout_s: float,
        lease_s: float,
        retention_s: int,
        clock_ms: Callable[[], int],
        observer: StoreObserver,
    ) -> None:
        """`clock_ms` returns Unix milliseconds; it counts only while Redis is away."""
        self._nodes = Nodes(addresses)
        self._keys = Keys(prefix)
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._retention_s = retention_s
        self._observer = observer
        self._loop: asyncio.AbstractEventLoop
        self._wire: Wire | None = None
        """The connection, while it is fit for calls."""
        self._evaluate = False
        """Redis takes the script only as a whole, never by name."""
        self._process = token_hex(8).encode()
        self._owner = b""
        self._generation = 0
        self._holds: dict[str, tuple[Rule, int]] = {}
        """What this process holds by shared verdicts: of calls, their number; of budgets, amounts."""
        self._sequence = 0
        self._queue: deque[Settlement] = deque()
        self._sent: deque[Settlement] = deque()
        self._answers_due = 0
        """Settlements sent on the current connection that have not been answered."""
        self._telling = False
        """Redis is being told what this process holds; what it answers to commands sent before that is known first."""
        self._whole = True
        """The next command carries the script, as Redis may not know it yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._wake: asyncio.Event
        self.fallback = Fallback(policy, clock_ms)
        self.dropped = 0
        """Settlements that were lost because Redis was away for too long."""

    @property
    def up(self) -> bool:
        """Redis decides."""
        return self._wire is not None

    @property
    def unsettled(self) -> int:
        """Settlements Redis has not confirmed."""
        return len(self._queue) + len(self._sent)

    def rule_set(self, rules: Sequence[Rule]) -> RuleSet:
        return RuleSet(rules, self._keys)

    async def start(self) -> None:
        """Connect, or begin without: Redis' absence is no reason not to start."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        for _ in range(MOVES):
            try:
                await self._connect()
            except Lost as error:
                self._observer.redis_failed(str(error))
                if self._nodes.moved:
                    continue
            break
        self._tasks = [asyncio.create_task(self._keep_connected()), asyncio.create_task(self._keep_lease())]

    async def stop(self) -> None:
        """Hand in what is left and give the lease back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        wire = self._wire
        if wire is None:
            return
        try:
            async with asyncio.timeout(2.0):
                while self.unsettled and self._wire is wire:
                    self._hand_in()
                    await asyncio.sleep(0.005)
                await ask(wire, self._encoded(script.forget(self._keys, self._owner, self._process)), self._loop)
        except (Lost, TimeoutError):
            pass
        self._wire = None
        wire.close()

    # Calls

    async def reserve(self, rules: RuleSet, ask: Amounts) -> Reservation:
        wire = self._wire
        if wire is None:
            return self._alone(rules, ask)
        answer: asyncio.Future[Reservation] = self._loop.create_future()
        self._send_reserve(wire, answer, rules, ask, 0)
        try:
            return await answer
        except asyncio.CancelledError:
            # The answer may have come in the very turn in which the caller left: then nobody else gives it back.
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                self._give_back(answer.result())
            raise

    def settle(self, reservation: Reservation, used: Amounts, books: Mapping[bytes, int]) -> None:
        rules, verdict, asked = reservation.rules, reservation.verdict, reservation.ask
        if reservation.shared:
            self._hold(reservation, -1)
            self.fallback.settled(reservation, used)
        else:
            self.fallback.settle(reservation, used)
        self._sequence += 1
        settlement = Settlement(rules, self._sequence, verdict if reservation.shared else None, asked, used, books)
        self._queue.append(settlement)
        if len(self._queue) > MAX_UNSETTLED:
            self._queue.popleft()
            self.dropped += 1
        self._hand_in()

    def _send_reserve(
        self, wire: Wire, answer: asyncio.Future[Reservation], rules: RuleSet, ask: Amounts, tries: int
    ) -> None:
        encoded = self._encoded(rules.reserve(self._owner, ask))
        wire.send(encoded, partial(self._reserved, wire, answer, rules, ask, tries))

    def _reserved(
        self, wire: Wire, answer: asyncio.Future[Reservation], rules: RuleSet, ask: Amounts, tries: int, reply: Any
    ) -> None:
        try:
            if isinstance(reply, Exception):
                raise reply
            verdict = rules.verdict(reply)
        except UnknownOwner:
            # The lease has ended, or Redis has lost its data: what this process holds is told anew, then asked again.
            if tries < 2 and self._wire is wire:
                if not self._telling:
                    self._renew(wire, tell=True)
                self._send_reserve(wire, answer, rules, ask, tries + 1)
                return
        except hiredis.ReplyError as error:
            if tries < 2 and self._wire is wire and self._can_go_on(error):
                self._send_reserve(wire, answer, rules, ask, tries + 1)
                return
            self._give_up(wire, error)
        except (Lost, ValueError, TypeError):
            pass
        else:
            self._observer.redis_latency(wire.latency_s)
            reservation = Reservation(rules, ask, verdict, shared=True)
            if verdict.admitted:
                self._hold(reservation, 1)
                self.fallback.admitted(reservation)
            if not answer.cancelled():
                answer.set_result(reservation)
            else:  # the caller left while Redis was thinking
                self._give_back(reservation)
            return
        if not answer.cancelled():
            try:
                answer.set_result(self._alone(rules, ask))
            except Exception as error:
                answer.set_exception(error)

    def _give_back(self, reservation: Reservation) -> None:
        if reservation.verdict.admitted:
            self.settle(reservation, Amounts(), {})

    def _alone(self, rules: RuleSet, ask: Amounts) -> Reservation:
        self._observer.decided_alone()
        return self.fallback.reserve(rules, ask)

    def _hold(self, reservation: Reservation, sign: int) -> None:
        for rule, standing in zip(reservation.rules.rules, reservation.verdict.standings, strict=True):
            if rule.is_rate or standing.over:
                continue
            amount = sign * (1 if rule.kind is Kind.CONCURRENT else reservation.ask[rule.counts])
            held = self._holds.get(rule.id, (rule, 0))[1] + amount
            if held > 0:
                self._holds[rule.id] = (rule, held)
            else:
                self._holds.pop(rule.id, None)

    # Settlements

    def _hand_in(self) -> None:
        wire = self._wire
        while wire is not None and self._queue and len(self._sent) < WINDOW:
            settlement = self._queue.popleft()
            self._sent.append(settlement)
            self._answers_due += 1
            encoded = settlement.rules.settle(settlement, self._owner, self._process, self._retention_s)
            wire.send(self._encoded(encoded), partial(self._settled, wire, settlement))

    def _settled(self, wire: Wire, settlement: Settlement, reply: Any) -> None:
        if isinstance(reply, Lost):
            return
        if isinstance(reply, hiredis.ReplyError) and not self._can_go_on(reply):
            self._give_up(wire, reply)
            return
        self._answers_due -= 1
        if reply in (0, 1) and self._sent and self._sent[0] is settlement:
            self._sent.popleft()
        if not self._answers_due and self._sent:
            # One has failed, so those after it were not taken either: once all have answered, they are sent again.
            self._queue.extendleft(reversed(self._sent))
            self._sent.clear()
        if self._queue:
            self._hand_in()

    # The connection

    async def _connect(self) -> None:
        """Make a connection fit for calls.

        Raises:
            Lost: there is none now.
        """
        address = self._nodes.next()
        wire = await connect(address, self._timeout_s, self._lost, self._loop)
        before, self._generation = self._owner, self._generation + 1
        self._owner = b"%b.%d" % (self._process, self._generation)
        for _ in range(2):
            # What is held now is what the new owner holds; what was settled meanwhile needs no release any more.
            self._queue.extendleft(reversed(self._sent))
            self._sent.clear()
            encoded = self._encoded(self._renewal(before=before, tell=True))
            reply = await ask(wire, encoded, self._loop)
            if not isinstance(reply, hiredis.ReplyError):
                break
            if not self._can_go_on(reply):
                self._nodes.note(reply)
                wire.close(self._reason(reply))
                raise Lost(self._reason(reply))
        else:
            wire.close("error")
            raise Lost("error")
        self._take_share(reply)
        try:
            self._nodes.learn(address, await ask(wire, CLUSTER_SLOTS, self._loop))
        except (TypeError, ValueError) as error:
            wire.close("protocol")
            raise Lost("protocol") from error
        self._answers_due, self._telling = 0, False
        self._wire = wire
        self._observer.redis_state(True)
        self._hand_in()

    async def _keep_connected(self) -> None:
        gap_s = RETRY_S[0]
        while True:
            if self._wire is not None:
                gap_s = RETRY_S[0]
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._connect()
            except Lost as error:
                self._observer.redis_failed(str(error))
            else:
                log.info("redis is back")
                continue
            await asyncio.sleep(gap_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            gap_s = min(gap_s * 2, RETRY_S[1])

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._wire is not None:
                self._renew(self._wire, tell=False)

    def _renew(self, wire: Wire, *, tell: bool) -> None:
        self._telling = self._telling or tell
        wire.send(self._encoded(self._renewal(tell=tell)), partial(self._renewed, wire, tell))

    def _renewed(self, wire: Wire, told: bool, reply: Any) -> None:
        if isinstance(reply, Lost) or wire is not self._wire:
            return
        if isinstance(reply, hiredis.ReplyError):
            if self._can_go_on(reply):
                self._renew(wire, tell=told)
            else:
                self._give_up(wire, reply)
            return
        self._take_share(reply)
        if told:
            self._telling = False
        elif not reply[0] and not self._telling:
            self._renew(wire, tell=True)

    def _renewal(self, *, before: bytes = b"", tell: bool) -> bytes:
        holds = list(self._holds.values()) if tell else ()
        if tell:  # what has been settled is not among it any more, and so needs no release either
            for settlement in self._queue:
                settlement.released = True
        lease_ms = int(self._lease_s * 1000)
        return script.renew(self._keys, self._owner, lease_ms, before=before, holds=holds, begin=tell)

    def _take_share(self, reply: Any) -> None:
        self.fallback.share(living=reply[1], rank=reply[2])

    def _lost(self, wire: Wire, reason: str) -> None:
        if wire is self._wire:
            self._wire = None
            self._observer.redis_failed(reason)
            self._observer.redis_state(False)
            log.error(
                "redis is away: limits follow the policy", extra={"reason": reason, "policy": self.fallback.policy}
            )
            self._wake.set()

    def _give_up(self, wire: Wire, error: Exception) -> None:
        self._nodes.note(error)
        wire.close(self._reason(error))

    @staticmethod
    def _reason(error: Exception) -> str:
        return "moved" if str(error).startswith("MOVED ") else reason_of(error)

    def _can_go_on(self, error: Exception) -> bool:
        """Say whether the same command may succeed another way, and see to it that it is sent that way."""
        text = str(error)
        if text.startswith("NOSCRIPT"):
            self._whole = True
            return True
        if text.startswith("NOPERM") and "evalsha" in text.lower() and not self._evaluate:
            self._evaluate = True
            log.warning("redis refuses EVALSHA: the script is sent whole with every call, which costs more")
            return True
        return False

    def _encoded(self, command: bytes) -> bytes:
        if self._evaluate:
            return script.as_eval(command)
        if self._whole:
            self._whole = False
            return script.as_eval(command)
        return command
