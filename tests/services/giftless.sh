#!/usr/bin/env bash
# Giftless, a real Git LFS server (PyPI), storing files on disk: one for writing, which wants credentials, and one for
# anonymous reading of the same files. They are two because a server that lets anonymous people read answers an upload
# without credentials with 403, and git-lfs then never sends any.
. "$(dirname "$0")/lib.sh"

install_missing() {
    # Its wheel names no dependencies. PyJWT from 2.10 on refuses the tokens that giftless makes for its own transfers.
    python_environment giftless==0.6.2 'pyjwt[crypto]<2.10' flask flask-classful flask-marshmallow 'marshmallow<4' marshmallow-enum \
        figcan webargs python-dotenv python-dateutil pyyaml cachetools gunicorn google-cloud-storage azure-storage-blob boto3
    command -v git-lfs >/dev/null || debian git git-lfs
}

prepare() {
    key=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    write_port=$(free_port)
    read_port=$(free_port)
    configure write ''
    configure read '  - giftless.auth.allow_anon:read_only'
    # What monkeys' tokens must be for giftless: signed with its key. The stand-in for Gafaelfawr gives them to its first users.
    tokens=$("$cache/$name/venv/bin/python" - "$key" <<'PYTHON'
import sys, time, jwt
now = int(time.time())
claims = [{"sub": f"monkey-{n}", "iat": now, "exp": now + 7200, "scopes": ["obj:*/*/*:*"]} for n in range(4)]
print(",".join(jwt.encode(claim, sys.argv[1], "HS256") for claim in claims))
PYTHON
    )
}

# configure NAME MORE: another way in, after the one with a password.
configure() {
    cat >"$folder/$1.yaml" <<YAML
TRANSFER_ADAPTERS:
  basic:
    factory: giftless.transfer.basic_streaming:factory
    options:
      storage_class: giftless.storage.local_storage:LocalStorage
      storage_options: {path: $folder/storage}
      action_lifetime: 900
AUTH_PROVIDERS:
  - factory: giftless.auth.jwt:factory
    options: {algorithm: HS256, private_key: $key, basic_auth_user: gituser}
$2
PRE_AUTHORIZED_ACTION_PROVIDER:
  factory: giftless.auth.jwt:factory
  options: {algorithm: HS256, private_key: $key, default_lifetime: 60, key_id: giftless-internal-jwt-key}
YAML
}

start() {
    serve write "$write_port"
    serve read "$read_port"
    until_answers "http://127.0.0.1:$write_port/" 404
    until_answers "http://127.0.0.1:$read_port/" 404
}

serve() {
    launch env GIFTLESS_CONFIG_FILE="$folder/$1.yaml" "$cache/$name/venv/bin/gunicorn" --bind "127.0.0.1:$2" --workers 1 --threads 4 \
        giftless.wsgi_entrypoint:app
}

tell_ready() {
    echo "ready write=http://127.0.0.1:$write_port/fleet/ring.git/info/lfs read=http://127.0.0.1:$read_port/fleet/ring.git/info/lfs" \
        "tokens=$tokens storage=$folder/storage"
}

# Bash reads no further, so that the file may change meanwhile.
main "$@"; exit
