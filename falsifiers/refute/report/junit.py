"""A decision as JUnit XML: one case for each claim. What blocks is a failure or an error, never skipped."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from refute.gate import Decision, Ruling
from refute.report.escape import xml_text
from refute.verdict import Exit


def junit(decision: Decision) -> bytes:
    """Return the whole document; a decision without rulings has one case, which says why."""
    suite = Element("testsuite", name=f"refute gate {decision.profile}", timestamp=decision.inputs.now)
    properties = SubElement(suite, "properties")
    inputs = decision.inputs
    for name, value in (
        ("profile", decision.profile),
        ("policy_sha256", inputs.policy_sha256),
        ("evidence_sha256", inputs.evidence_sha256),
        ("engine_digest", inputs.engine_digest or ""),
        ("exit_code", str(int(decision.code))),
    ):
        SubElement(properties, "property", name=name, value=value)
    for ruling in decision.rulings:
        _case(suite, ruling)
    if decision.reason:
        case = SubElement(suite, "testcase", classname="refute", name="gate", time="0")
        SubElement(case, "failure", type="missing", message=xml_text(decision.reason))
    for kind, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(plural, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("time", "0")
    whole = Element("testsuites")
    whole.append(suite)
    indent(whole)
    document: bytes = tostring(whole, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: Element, ruling: Ruling) -> None:
    claim = ruling.claim
    case = SubElement(suite, "testcase", classname=claim.contract, name=claim.falsifier, time="0")
    said = xml_text(ruling.reason)
    if ruling.outcome in ("waived", "outside"):
        SubElement(case, "skipped", message=said)
    elif ruling.outcome == "fails":
        kind = "error" if ruling.code is Exit.INVALID else "failure"
        why = SubElement(case, kind, type=str(ruling.status), message=said)
        told = filter(None, (ruling.remedy, ruling.command))
        why.text = xml_text(f"clear it with: {': '.join(told)}", 1_000) if ruling.command else None
    said_too = [xml_text(each) for each in (claim.claim, claim.figure, ruling.note, *claim.flags) if each]
    SubElement(case, "system-out").text = "\n".join(said_too)
