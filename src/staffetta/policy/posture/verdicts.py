"""The three verdicts: can others send as you, can you be reached safely, will bulk-sender rules accept you.

The rules of large receivers (RFC numbers do not cover them): SPF and DKIM both hold, DMARC is published, the reverse
name of a sending address leads back to it, no list names it.
"""

from __future__ import annotations

from staffetta.mailauth.results import DmarcPolicy
from staffetta.policy.posture.dkim import good_keys, own_missing, weak_selectors
from staffetta.policy.posture.dmarc import STRENGTH, applied, policies, unknown
from staffetta.policy.posture.facts import DomainFacts
from staffetta.policy.posture.findings import Finding, Level, Opinion, Verdict, shown
from staffetta.policy.posture.mx import reaches
from staffetta.policy.posture.spf import broken, sends_nothing, shared
from staffetta.policy.posture.tls import all_dane, left_out, sts_policy
from staffetta.tlspolicy.mta_sts import StsMode


def spoofable(facts: DomainFacts) -> Verdict:
    """Can others send as you?"""
    failure = unknown(facts)
    if failure:
        return Verdict(None, f"the DNS does not say what the domain asks for: {shown(failure)}")
    asked = policies(facts)
    if facts.spf.everything:
        return Verdict(Opinion.YES, "SPF lets every machine in the world send as you, and receivers find it proven")
    providers = " and ".join(dict.fromkeys(shared(facts).values()))
    if asked.own is DmarcPolicy.NONE:
        why = "there is no DMARC policy that counts" if applied(facts) is None else "the DMARC policy asks for nothing"
        also = f"; from {providers} it can even pass SPF" if providers else ""
        return Verdict(Opinion.YES, f"{why}, so mail with your name in From is delivered whoever wrote it{also}")
    if asked.own is DmarcPolicy.QUARANTINE:
        return Verdict(Opinion.PARTLY, "forged mail is still delivered, into Junk, as your policy asks")
    if STRENGTH[asked.weakest_below] < STRENGTH[asked.own]:
        end = "delivered" if asked.weakest_below is DmarcPolicy.NONE else "put into Junk"
        return Verdict(Opinion.PARTLY, f"mail in your own name is refused, in that of subdomains it is {end}")
    weak = weak_selectors(facts)
    if weak:
        names = shown(", ".join(weak))
        return Verdict(Opinion.PARTLY, f"forged mail is refused, but the DKIM key of {names} can be broken")
    trust = f", as long as {providers} lets only you use your name" if providers else ""
    return Verdict(Opinion.NO, f"receivers are asked to refuse what is not proven to be yours{trust}")


def reachable(facts: DomainFacts) -> Verdict:
    """Can you be reached safely?"""
    mx = facts.mx
    if mx.failure:
        return Verdict(None, f"the DNS does not say where mail goes: {shown(mx.failure)}")
    if not mx.exists:
        return Verdict(Opinion.NO, "the domain does not exist")
    if mx.null and not mx.hosts:
        return Verdict(Opinion.NO, "the domain says that it takes no mail")
    if not mx.hosts:
        return Verdict(Opinion.NO, "there is no host to bring mail to")
    working = [host for host in mx.hosts if reaches(host)]
    if not working and any(host.failure for host in mx.hosts):
        return Verdict(None, "the DNS does not say which addresses the mail servers have")
    if not working:
        return Verdict(Opinion.NO, "no mail server has an address that others can reach")
    doubts = ["not every mail server can be reached"] if len(working) < len(mx.hosts) else []
    doubts += [doubt for doubt in [_way(facts)] if doubt]
    if doubts:
        return Verdict(Opinion.PARTLY, "; ".join(doubts))
    how = "DANE" if all_dane(facts) else "MTA-STS"
    return Verdict(Opinion.YES, f"every mail server has an address, and {how} keeps the way safe")


def _way(facts: DomainFacts) -> str:
    """What is wrong with the safety of the way; "" when nothing is."""
    policy = sts_policy(facts)
    if policy is not None and policy.mode is StsMode.ENFORCE:
        missing = left_out(facts, policy)
        return f"the MTA-STS policy shuts out {shown(', '.join(missing))}" if missing else ""
    if all_dane(facts):
        return ""
    return "mail arrives, but nothing makes senders insist on TLS (neither MTA-STS in force nor DANE)"


def bulk(facts: DomainFacts, findings: tuple[Finding, ...]) -> Verdict:
    """Will bulk-sender rules accept you?"""
    spf = facts.spf
    failure = unknown(facts) or (spf.error if not spf.record else "")
    if failure:
        return Verdict(None, f"the DNS does not say enough: {shown(failure)}")
    if sends_nothing(facts):
        return Verdict(Opinion.NO, "the domain says that it sends no mail (v=spf1 -all)")
    missing: list[str] = []
    if not spf.record or broken(facts):
        missing.append("SPF is broken" if broken(facts) else "SPF is missing")
    if applied(facts) is None:
        missing.append("a valid DMARC record is missing")
    if own_missing(facts):
        missing.append(f"the DKIM key of {shown(', '.join(own_missing(facts)))} is missing")
    if missing:
        return Verdict(Opinion.NO, "; ".join(missing))
    doubts = [] if good_keys(facts) else ["no DKIM key was found, and they want SPF and DKIM both"]
    if spf.everything:
        doubts.append("SPF passes everybody, which proves nothing")
    if not facts.mx.hosts and not facts.mx.failure:
        doubts.append("nobody can answer its mail, and many receivers refuse such senders")
    codes = {finding.code for finding in findings if finding.level is not Level.NOTE}
    if codes & {"D110", "D111"}:
        doubts.append("an address that sends has no reverse name that leads back to it")
    if "D601" in codes:
        doubts.append("an address is on a block list")
    if doubts:
        return Verdict(Opinion.PARTLY, "; ".join(doubts))
    return Verdict(Opinion.YES, "SPF, DKIM and DMARC are there; complaints and unsubscribing are up to you")


__all__ = ["bulk", "reachable", "spoofable"]
