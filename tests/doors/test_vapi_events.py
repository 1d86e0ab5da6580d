"""The counts and the last events of Vapi's server messages."""

from proxy.doors.vapi_events import VapiEvents, kind_of


def test_types_are_a_closed_list() -> None:
    assert kind_of("hang") == "hang"
    assert kind_of("session.created") == "session.created"
    assert kind_of('transcript[transcriptType="final"]') == "transcript"
    assert kind_of("tomorrow") == kind_of("") == "other"


def test_events_are_counted_and_the_last_are_kept() -> None:
    events = VapiEvents()
    for number in range(150):
        events.note("status-update", f"call-{number}", "x" * 500)
    events.note("transcript", "call-0", "final")
    events.note("hang", None, "ok")
    said = events.as_json()
    assert said["events"] == {"status-update": 150, "transcript": 1, "hang": 1}
    assert len(said["last"]) == 100
    assert (said["last"][0]["type"], said["last"][0]["call"], said["last"][0]["status"]) == ("hang", None, "ok")
    assert said["last"][1]["call"] == "call-149" and len(said["last"][1]["status"]) == 120
    assert all(event["type"] != "transcript" for event in said["last"]), "too frequent to list"
