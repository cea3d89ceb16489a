"""Counts the test cases of several `bazel test` runs.

Usage: count_tests.py DIRECTORY. For every run the directory holds NAME.targets (the labels that had to
run) and NAME.events (--build_event_json_file). Prints a line for each run and target that failed, and
writes "N passed, M failed" to DIRECTORY/summary. Exits with 1 if anything failed.
"""

import json
import pathlib
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


def count_cases(xml_path):
    """Returns (passed, failed, skipped) of one test.xml."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(xml_path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.get("status") == "notrun" or case.get("result") in ("skipped", "suppressed"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def read_results(events_path):
    """Returns {label: {shard: (status, test.xml path or None)}}, of the last attempt of each."""
    results = {}
    if not events_path.exists():
        return results
    for line in events_path.read_text().splitlines():
        event = json.loads(line)
        test_id = event.get("id", {}).get("testResult")
        if not test_id or "testResult" not in event:
            continue
        outputs = {o["name"]: o.get("uri", "") for o in event["testResult"].get("testActionOutput", [])}
        xml = urllib.parse.unquote(urllib.parse.urlparse(outputs.get("test.xml", "")).path)
        shard = (test_id.get("run", 1), test_id.get("shard", 1))
        results.setdefault(test_id["label"], {})[shard] = (event["testResult"]["status"], xml)
    return results


def main():
    directory = pathlib.Path(sys.argv[1])
    total_passed = total_failed = total_skipped = 0
    for targets_path in sorted(directory.glob("*.targets")):
        run = targets_path.stem
        results = read_results(directory / (run + ".events"))
        run_passed = run_failed = run_skipped = 0
        for label in targets_path.read_text().split():
            if label not in results:
                print(f"{run}: {label} was not built or not run")
                run_failed += 1
                continue
            for (_, shard), (status, xml) in sorted(results[label].items()):
                try:
                    passed, failed, skipped = count_cases(xml)
                except (OSError, ElementTree.ParseError):
                    passed, failed, skipped = 0, 0, 0
                # A crash or a timeout leaves an XML that does not say so.
                if status != "PASSED" and failed == 0:
                    failed = 1
                if failed:
                    print(f"{run}: {label} (shard {shard}): {failed} failed, {status.lower()}")
                run_passed += passed
                run_failed += failed
                run_skipped += skipped
        print(f"{run}: {run_passed} passed, {run_failed} failed, {run_skipped} skipped")
        total_passed += run_passed
        total_failed += run_failed
        total_skipped += run_skipped
    if total_skipped:
        print(f"{total_skipped} skipped: see the test logs for the reasons")
    (directory / "summary").write_text(f"{total_passed} passed, {total_failed} failed\n")
    return 1 if total_failed else 0


if __name__ == "__main__":
    sys.exit(main())
