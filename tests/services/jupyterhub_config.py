"""Configuration of the ring's JupyterHub; jupyterhub.sh says where things are."""

import os
from pathlib import Path

from jupyterhub.auth import Authenticator
from jupyterhub.handlers import BaseHandler
from tornado import web

folder = Path(os.environ["MOBU_TEST_FOLDER"])
cache = Path(os.environ["RING_CACHE"])
port = int(os.environ["RING_PORT"])


class IngressLogin(BaseHandler):
    """Logs in whom the ingress names."""

    async def get(self):
        name = self.request.headers.get("X-Auth-Request-User")
        if not name:
            raise web.HTTPError(401, "the ingress names nobody")
        user = await self.auth_to_user({"name": name, "auth_state": None})
        self.set_login_cookie(user)
        self.redirect(self.get_next_url(user))


class IngressAuthenticator(Authenticator):
    """Believes the ingress."""

    auto_login = True
    allow_all = True

    def get_handlers(self, app):
        return [("/ingress/login", IngressLogin)]

    def login_url(self, base_url):
        return base_url.rstrip("/") + "/ingress/login"

    async def authenticate(self, handler, data):
        raise NotImplementedError


c = get_config()  # noqa: F821
c.JupyterHub.bind_url = f"http://127.0.0.1:{port}/nb/"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ['RING_HUB_PORT']}"
if os.environ["RING_SUBDOMAINS"]:
    # Names below `localhost` are this machine, by RFC 6761. The port is the ingress's, which tells the hub by this variable.
    c.JupyterHub.subdomain_host = os.environ["RING_SUBDOMAINS"]
c.JupyterHub.db_url = f"sqlite:///{folder}/data/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(folder / "data" / "cookie_secret")
c.JupyterHub.authenticator_class = IngressAuthenticator
c.JupyterHub.spawner_class = "simple"
# A fleet starts many labs at once.
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.services = [{"name": "ring", "api_token": os.environ["RING_SERVICE_TOKEN"]}]
c.JupyterHub.load_roles = [{"name": "ring", "services": ["ring"], "scopes": ["admin:users", "admin:servers", "list:users"]}]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{os.environ['RING_PROXY_API_PORT']}"
c.ConfigurableHTTPProxy.command = [str(cache / "npm/node_modules/.bin/configurable-http-proxy")]
c.ConfigurableHTTPProxy.pid_file = str(folder / "data" / "proxy.pid")
c.SimpleLocalProcessSpawner.home_dir_template = str(folder / "home" / "{username}")
c.Spawner.cmd = [str(cache / "venv/bin/jupyterhub-singleuser")]
c.Spawner.args = ["--ServerApp.terminals_enabled=False"] + (["--allow-root"] if os.getuid() == 0 else [])
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = 90
c.Spawner.environment = {
    "PATH": f"{cache}/venv/bin:{os.environ['PATH']}",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "IPYTHONDIR": str(folder / "data" / "ipython"),
    "MOBU_TEST_FOLDER": str(folder),
    # What images of the platform say about themselves.
    "JUPYTER_IMAGE_SPEC": "ring/sciplat-lab:w_2026_40",
    "IMAGE_DESCRIPTION": "Weekly 2026_40",
}
# A form with the platform's fields, so that spawning takes a form here, too.
c.Spawner.options_form = "".join(
    f'<input name="{field}">' for field in ("image_list", "image_dropdown", "image_class", "image_tag", "size")
)
c.Spawner.options_from_form = lambda form: {field: values[0] for field, values in form.items()}
