"""One block of one end, from the raw record to named keys, as a state machine without I/O.

The transport makes one ``LinkEnd`` per end of a link and keeps it, asks it for a block per record
and carries octets:

    end = LinkEnd(end=End.SENDER, settings=settings, psk=psk, rng=rng)
    block = end.block(record)              # SenderBlock or ReceiverBlock, by ``end``
    for data in block.start():
        send(data)
    while block.outcome is None:
        for data in block.handle(receive()):
            send(data)

Every ``bytes`` is one message (at most ``messages.MAX_MESSAGE`` octets) and must arrive once and
in order. ``handle`` raises PostprocessingError when the block is lost; the transport then calls
``block.abandon(why)``, drops the connection, and after the next connect exchanges
``end.inventory()`` and gives the peer's to ``end.align()`` before the next block; ``align``
returns the numbers of blocks whose keys the peer does not have. Both ends work at the same block.

``handle`` and ``start`` compute for up to some tenths of a second per million sifted bits: an
event loop runs them in a thread.
"""

from __future__ import annotations

from dataclasses import replace

from kms_client.secret import Secret
from qkd_adapters.postprocessing import amplification, clicks, continuous, symbols
from qkd_adapters.postprocessing import messages as wire
from qkd_adapters.postprocessing.authentication import TAG_BITS, Authenticator
from qkd_adapters.postprocessing.errors import PeerMessageError
from qkd_adapters.postprocessing.estimate import Counts, Estimate, Moments, entropy, ratio
from qkd_adapters.postprocessing.estimators import estimate
from qkd_adapters.postprocessing.exchange import Exchange, Steps
from qkd_adapters.postprocessing.ledger import Ledger
from qkd_adapters.postprocessing.messages import Phase
from qkd_adapters.postprocessing.outcome import End, NamedKey, Outcome, RawBlock
from qkd_adapters.postprocessing.randomness import Rng
from qkd_adapters.postprocessing.reconciliation import Reconciled, answer, correct
from qkd_adapters.postprocessing.settings import ContinuousVariable, Settings
from qkd_adapters.postprocessing.wire import Bits, Reader, Writer

__all__ = [
    "Block",
    "End",
    "LinkEnd",
    "NamedKey",
    "Outcome",
    "RawBlock",
    "ReceiverBlock",
    "SenderBlock",
]

# Three tags in each direction; a block that promises less than they cost is not finished.
TAGS = 3
COST = 2 * TAGS * TAG_BITS
# What reconciliation is expected to leak over the Shannon limit, before it has begun.
_TYPICAL_EFFICIENCY = 1.08


class LinkEnd:
    """One end of a link, over all blocks. ``psk`` is used up; both ends are made with the same."""

    def __init__(self, *, end: End, settings: Settings, psk: Secret, rng: Rng) -> None:
        self.end = end
        self.settings = settings
        self.rng = rng
        self.authenticator = Authenticator(first=end is End.SENDER, psk=psk)
        self.ledger = Ledger()
        self.qber: float | None = None  # of Z, in the last block that gave key
        self.committed: int | None = None  # last block that gave key

    def block(self, raw: RawBlock) -> Block:
        return SenderBlock(self, raw) if self.end is End.SENDER else ReceiverBlock(self, raw)

    def inventory(self) -> bytes:
        """For the peer, after every connect and before the next block."""
        out = Writer()
        out.number(0 if self.committed is None else self.committed + 1)
        out.octets(self.authenticator.inventory())
        return out.finish()

    def align(self, peer: bytes) -> tuple[int, ...]:
        """Take the peer's inventory; numbers of blocks whose keys the peer does not have.

        At most one: the last block of an end that did not learn that the connection had ended.
        Their keys are to be dropped (``ledger.discard``). Raises PostprocessingError.
        """
        source = Reader(peer)
        theirs = source.number() - 1
        self.authenticator.align(source.octets(1 << 16))
        source.end()
        if self.committed is None or theirs >= self.committed:
            return ()
        return (self.committed,)


class Block:
    """One block at one end. ``outcome`` is there when it is over."""

    def __init__(self, end: LinkEnd, raw: RawBlock) -> None:
        self.outcome: Outcome | None = None
        self._end = end
        self._raw = raw
        self._exchange = Exchange(
            end=end.end,
            block=raw.block,
            settings=end.settings,
            authenticator=end.authenticator,
            rng=end.rng,
        )
        self._bits: list[Bits] = []  # to be wiped, whatever happens
        self._counts: Counts | Moments | None = None
        self._steps = self._run()

    def start(self) -> list[bytes]:
        """Messages to send first."""
        return next(self._steps)

    def handle(self, data: bytes) -> list[bytes]:
        """Messages to send in answer. Raises PostprocessingError: the block is lost."""
        if self.outcome is not None:
            raise PeerMessageError("the block is over")
        message = self._exchange.note(data)
        try:
            return self._steps.send(message)
        except StopIteration as end:
            self.outcome = replace(end.value, auth_bits_used=self._exchange.auth_bits_used)
            self._wipe()
            return self._exchange.flush()

    def abandon(self, why: str) -> Outcome:
        """The block ends here without key."""
        self._steps.close()
        self._wipe()
        if self.outcome is None:
            self.outcome = replace(
                self._nothing(Estimate(secret_bits=0, reason=why)),
                failure=why,
                auth_bits_used=self._exchange.auth_bits_used,
            )
        return self.outcome

    def _run(self) -> Steps[Outcome]:
        raise NotImplementedError

    # --- what both roles need ---

    def _nothing(self, estimated: Estimate, reconciled: Reconciled | None = None) -> Outcome:
        failed = reconciled is not None and not reconciled.equal
        return Outcome(
            block=self._raw.block,
            keys=(),
            estimate=replace(estimated, secret_bits=0),
            counts=self._counts,
            failure="verification failed" if failed else "",
            verified=reconciled is not None and reconciled.equal,
            rounds=reconciled.rounds if reconciled else 0,
            efficiency=_efficiency(self._end.settings, self._counts, reconciled),
        )

    def _refuse(self, reason: str) -> None:
        self._exchange.send(
            wire.Amplify(block=self._raw.block, secret_bits=0, auth_bits=0, seed=b"", reason=reason)
        )

    def _offer(self, reconciled: Reconciled, estimated: Estimate) -> Steps[Outcome]:
        """The oracle's end of amplification."""
        exchange, end = self._exchange, self._end
        secret = estimated.secret_bits
        if not reconciled.equal or not secret:
            self._refuse(estimated.reason if reconciled.equal else "verification failed")
            return self._nothing(estimated, reconciled)
        offer = wire.Amplify(
            block=self._raw.block,
            secret_bits=secret,
            auth_bits=amplification.auth_share(  # after this phase's two tags
                secret, left=sum(end.authenticator.left) - 2 * TAG_BITS, settings=end.settings
            ),
            seed=end.rng.random_bytes(amplification.seed_octets(len(reconciled.bits))),
            reason="",
        )
        exchange.send(offer)
        exchange.send_tag(Phase.AMPLIFICATION)
        yield from exchange.expect(wire.Confirmed)
        yield from exchange.check_tag(Phase.AMPLIFICATION)
        return self._commit(offer, reconciled, estimated)

    def _accept(self, reconciled: Reconciled, estimated: Estimate) -> Steps[Outcome]:
        """The corrector's end of amplification."""
        exchange = self._exchange
        offer = yield from exchange.expect(wire.Amplify)
        if not offer.secret_bits:
            return self._nothing(replace(estimated, reason=offer.reason), reconciled)
        yield from exchange.check_tag(Phase.AMPLIFICATION)
        octets = amplification.seed_octets(len(reconciled.bits))
        if (
            not reconciled.equal
            or offer.secret_bits > estimated.secret_bits
            or offer.auth_bits > offer.secret_bits
            or offer.auth_bits % amplification.AUTH_UNIT
            or len(offer.seed) != octets
        ):
            raise PeerMessageError("the peer wants more key than the block is worth")
        exchange.send(wire.Confirmed(block=self._raw.block))
        exchange.send_tag(Phase.AMPLIFICATION)
        return self._commit(offer, reconciled, estimated)

    def _commit(self, offer: wire.Amplify, reconciled: Reconciled, estimated: Estimate) -> Outcome:
        end = self._end
        divided = amplification.amplify(
            reconciled.bits,
            seed=offer.seed,
            secret_bits=offer.secret_bits,
            auth_bits=offer.auth_bits,
            settings=end.settings,
            block=self._raw.block,
        )
        if offer.auth_bits:
            end.authenticator.replenish(self._raw.block + 1, divided.authentication.expose())
            divided.authentication.wipe()
        end.ledger.generate(
            keys=len(divided.keys) * end.settings.key_bits,
            authentication=offer.auth_bits,
            remainder=divided.remainder,
        )
        end.committed = self._raw.block
        if isinstance(self._counts, Counts):
            end.qber = estimated.qber_z
        return replace(
            self._nothing(estimated, reconciled),
            keys=divided.keys,
            estimate=replace(estimated, secret_bits=offer.secret_bits),
            auth_bits_added=offer.auth_bits,
        )

    def _wipe(self) -> None:
        for bits in self._bits:
            bits[...] = 0
        self._bits.clear()


class SenderBlock(Block):
    """Alice's end: answers the receiver's detections; the oracle, but for CV the corrector."""

    def _run(self) -> Steps[Outcome]:
        scheme = self._end.settings.scheme
        if isinstance(scheme, ContinuousVariable):
            return (yield from self._symbols(scheme))
        return (yield from self._clicks())

    def _clicks(self) -> Steps[Outcome]:
        exchange, settings = self._exchange, self._end.settings
        sifted = yield from clicks.sender(exchange, self._raw)
        self._bits.append(sifted.bits)
        self._counts = guessed(sifted.counts, self._end)
        preview = estimate(settings, self._counts)
        if preview.secret_bits <= COST:
            reason = preview.reason or "the block would not pay for its authentication"
            self._refuse(reason)
            return self._nothing(replace(preview, reason=reason))
        exchange.require_key(TAGS)
        exchange.send_tag(Phase.SIFTING)
        yield from exchange.check_tag(Phase.SIFTING)
        reconciled = yield from answer(exchange, [sifted.bits])
        self._bits.append(reconciled.bits)
        self._counts = known(sifted.counts, reconciled)
        return (yield from self._offer(reconciled, estimate(settings, self._counts)))

    def _symbols(self, scheme: ContinuousVariable) -> Steps[Outcome]:
        exchange, settings = self._exchange, self._end.settings
        shared = yield from symbols.sender(exchange, self._raw, scheme)
        self._counts = symbols.hopeful(shared)
        preview = estimate(settings, self._counts)
        if preview.secret_bits <= COST:
            reason = preview.reason or "the block would not pay for its authentication"
            self._refuse(reason)
            return self._nothing(replace(preview, reason=reason))
        exchange.require_key(TAGS)
        exchange.send_tag(Phase.SIFTING)
        yield from exchange.check_tag(Phase.SIFTING)
        reconciled = yield from symbols.correct(exchange, shared)
        self._bits.append(reconciled.bits)
        self._counts = symbols.finished(shared, reconciled, scheme)
        return (yield from self._accept(reconciled, estimate(settings, self._counts)))


class ReceiverBlock(Block):
    """Bob's end: announces what it detected; the corrector, but for CV the oracle."""

    def _run(self) -> Steps[Outcome]:
        scheme = self._end.settings.scheme
        if isinstance(scheme, ContinuousVariable):
            return (yield from self._symbols(scheme))
        return (yield from self._clicks())

    def _clicks(self) -> Steps[Outcome]:
        exchange, end = self._exchange, self._end
        sifted = yield from clicks.receiver(exchange, self._raw)
        self._bits.append(sifted.bits)
        self._counts = guessed(sifted.counts, end)
        verdict = yield from exchange.either(wire.PhaseTag, wire.Amplify)
        if isinstance(verdict, wire.Amplify):
            preview = estimate(end.settings, self._counts)
            return self._nothing(replace(preview, reason=verdict.reason or "refused by the peer"))
        exchange.require_key(TAGS)
        exchange.verify(verdict, Phase.SIFTING)
        exchange.send_tag(Phase.SIFTING)
        guesses = clicks.Guesses(sifted, typical_qber(sifted.counts, end))
        reconciled = yield from correct(exchange, guesses)
        self._bits.append(reconciled.bits)
        self._counts = known(sifted.counts, reconciled)
        return (yield from self._accept(reconciled, estimate(end.settings, self._counts)))

    def _symbols(self, scheme: ContinuousVariable) -> Steps[Outcome]:
        exchange, end = self._exchange, self._end
        shared = yield from symbols.receiver(exchange, self._raw, scheme)
        self._counts = symbols.hopeful(shared)
        verdict = yield from exchange.either(wire.PhaseTag, wire.Amplify)
        if isinstance(verdict, wire.Amplify):
            preview = estimate(end.settings, self._counts)
            return self._nothing(replace(preview, reason=verdict.reason or "refused by the peer"))
        exchange.require_key(TAGS)
        exchange.verify(verdict, Phase.SIFTING)
        exchange.send_tag(Phase.SIFTING)
        reconciled = yield from symbols.answer(exchange, shared)
        self._bits.append(reconciled.bits)
        self._counts = symbols.finished(shared, reconciled, scheme)
        return (yield from self._offer(reconciled, estimate(end.settings, self._counts)))


def typical_qber(counts: Counts, end: LinkEnd) -> float:
    """A guess at the error rate in Z, for choosing block sizes: X and the last block together."""
    prior = end.settings.expected_qber if end.qber is None else end.qber
    if counts.pairs:
        return prior  # twin field: test pulses carry no bits that could be wrong
    weight = 200  # test bits that the prior is worth
    return (counts.errors_x + weight * prior) / (counts.sifted_x + weight)


def guessed(counts: Counts, end: LinkEnd) -> Counts:
    """``counts`` with Z errors and leak as they are to be expected after the X basis."""
    prior = typical_qber(counts, end)
    levels = tuple(
        replace(
            level,
            errors_z=round(
                level.tested_z
                * (ratio(level.errors_x, level.tested_x) if level.tested_x else prior)
            ),
        )
        for level in counts.levels
    )
    if counts.pairs:
        levels = tuple(replace(each, errors_z=round(each.tested_z * prior)) for each in levels)
    leak = _TYPICAL_EFFICIENCY * counts.sifted_z * entropy(prior)
    return replace(counts, levels=levels, leak=round(leak))


def known(counts: Counts, reconciled: Reconciled) -> Counts:
    """``counts`` with what reconciliation found. Raises PeerMessageError for impossible errors."""
    errors = reconciled.errors
    if len(errors) != len(counts.levels) or any(
        error > level.tested_z for error, level in zip(errors, counts.levels, strict=True)
    ):
        raise PeerMessageError("more errors than there are bits")
    levels = tuple(
        replace(level, errors_z=error) for level, error in zip(counts.levels, errors, strict=True)
    )
    return replace(counts, levels=levels, leak=reconciled.leak, reconciled=True)


def _efficiency(
    settings: Settings, counts: Counts | Moments | None, reconciled: Reconciled | None
) -> float:
    if reconciled is None or counts is None:
        return 0.0
    if isinstance(counts, Counts):
        qber = ratio(counts.errors_z, counts.sifted_z)
        return ratio(reconciled.leak, counts.sifted_z * entropy(qber))
    scheme = settings.scheme
    return continuous.beta(scheme, counts) if isinstance(scheme, ContinuousVariable) else 0.0
