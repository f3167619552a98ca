#!/usr/bin/env bash
# JupyterHub with JupyterLab and an IPython kernel (PyPI) and its proxy (npm). Labs are processes on this machine. The hub believes what
# the header X-Auth-Request-User says, as behind the ingress of the Rubin Science Platform, for which the harness stands in.
# With MOBU_TEST_SUBDOMAINS=1 every user has a domain of his own.
. "$(dirname "$0")/lib.sh"

install_missing() {
    python_environment 'jupyterhub>=6,<7' jupyterlab ipykernel
    if [ ! -x "$cache/$name/npm/node_modules/.bin/configurable-http-proxy" ]; then
        command -v npm >/dev/null || debian nodejs npm
        mkdir -p "$cache/$name/npm"
        timeout 300 npm install --silent --no-save --no-audit --no-fund --prefix "$cache/$name/npm" configurable-http-proxy >&2 ||
            unavailable "npm cannot install configurable-http-proxy"
    fi
    local venv=$cache/$name/venv
    [ -d "$venv/share/jupyter/kernels/lsst" ] ||
        "$venv/bin/python" -m ipykernel install --prefix "$venv" --name lsst --display-name LSST >&2
}

prepare() {
    port=$(free_port)
    hub_port=$(free_port)
    proxy_api_port=$(free_port)
    proxy_token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    service_token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    # Where users have domains of their own, the proxy tells hub and labs apart by the host that is asked for.
    host=127.0.0.1:$port
    [ -z "${MOBU_TEST_SUBDOMAINS:-}" ] || host=${MOBU_TEST_SUBDOMAINS#http://}
    mkdir -p "$folder/home" "$folder/data"
    cp "$scripts/jupyterhub_config.py" "$folder/config.py"
}

start() {
    launch env \
        PATH="$cache/$name/venv/bin:$PATH" CONFIGPROXY_AUTH_TOKEN="$proxy_token" RING_CACHE="$cache/$name" RING_PORT="$port" \
        RING_HUB_PORT="$hub_port" RING_PROXY_API_PORT="$proxy_api_port" RING_SERVICE_TOKEN="$service_token" \
        RING_SUBDOMAINS="${MOBU_TEST_SUBDOMAINS:-}" \
        "$cache/$name/venv/bin/jupyterhub" -f "$folder/config.py"
    # The proxy answers 503, then 404, until the hub has told it where it is.
    until_answers "http://127.0.0.1:$port/nb/hub/api" 200 -H "Host: $host"
}

tell_ready() {
    echo "ready port=$port host=$host token=$service_token home=$folder/home"
}

# Bash reads no further, so that the file may change meanwhile.
main "$@"; exit
