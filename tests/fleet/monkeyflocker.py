"""What mobu's command line client asks for, and how it reads the answers (contracts/integrations.md 6).

Stands in for that client in our tests. Usage: monkeyflocker.py BASE_URL start FILE | report NAME DIR | refresh NAME | stop NAME
"""

import json
import sys
import urllib.request
from pathlib import Path

PATIENCE = 30


def call(base, method, path, body=None):
    headers = {"Authorization": "Bearer gt-not-a-real-token", "Content-Type": "application/json"}
    # The ingress in front of mobu adds this one.
    headers["X-Auth-Request-User"] = "flocker"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/mobu/{path}", data, headers, method=method)
    # Like the real client: any error status, or no answer in time, ends the program.
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def main(base, command, *arguments):
    if command == "start":
        specification = json.loads(Path(arguments[0]).read_text())
        call(base, "PUT", "flocks", specification)
    elif command == "report":
        name, folder = arguments[0], Path(arguments[1])
        folder.mkdir(parents=True, exist_ok=True)
        for monkey in json.loads(call(base, "GET", f"flocks/{name}"))["monkeys"]:
            user = monkey["name"]
            (folder / f"{user}_log.txt").write_text(call(base, "GET", f"flocks/{name}/monkeys/{user}/log"))
            (folder / f"{user}_stats.json").write_text(json.dumps(monkey, indent=4, sort_keys=True))
    elif command == "refresh":
        call(base, "POST", f"flocks/{arguments[0]}/refresh")
    elif command == "stop":
        call(base, "DELETE", f"flocks/{arguments[0]}")
    else:
        sys.exit(f"unknown command {command}")


main(*sys.argv[1:])
