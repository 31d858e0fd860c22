"""Where the API server is, and who we are to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from kubernetes.aio import client, config
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader
from yaml import YAMLError

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.answers import ApiUnavailable
from sidecar.kubernetes.certificates import CertificatesApi

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# ssl.SSLError is an OSError, and ValueError is a PEM file that is none. The others are what the
# client's loader of kubeconfigs stumbles over: it checks little before it uses it.
_UNUSABLE = (
    ConfigException,
    OSError,
    ValueError,
    YAMLError,
    TypeError,
    AttributeError,
    LookupError,
)


class KubernetesConnection:
    """A pod's own credentials, or those of a `kubeconfig` (for development).

    They are read anew for each session, and the token of a pod for each call, because the
    kubelet replaces them while we run. The files are small and local; reading them blocks.
    """

    def __init__(
        self,
        kubeconfig: Path | None = None,
        *,
        service_account: Path = SERVICE_ACCOUNT,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._service_account = service_account
        self._environment = environment

    async def check(self) -> None:
        """Looks whether there are credentials, without asking the API server.

        Raises:
            ConfigurationError: there are none, and why.
        """
        try:
            await self._load()
        except _UNUSABLE as error:
            raise ConfigurationError(self._unusable(error)) from error

    @asynccontextmanager
    async def session(self) -> AsyncIterator[CertificatesApi]:
        """The API, for one piece of work; its connections are closed afterwards.

        Raises:
            ApiUnavailable: the credentials cannot be read now.
        """
        try:
            api_client = client.ApiClient(await self._load())
        except _UNUSABLE as error:
            raise ApiUnavailable(self._unusable(error)) from error
        async with api_client:
            yield CertificatesApi(api_client)

    async def _load(self) -> client.Configuration:
        configuration = client.Configuration()
        # No proxy and no .netrc from the environment: the token goes to the API server only.
        configuration.client_session_kwargs = {"trust_env": False}
        if self._kubeconfig:
            await config.load_kube_config(
                str(self._kubeconfig), client_configuration=configuration, persist_config=False
            )
            _require_verified_tls(configuration)
        else:
            self._load_service_account(configuration)
            # The client declares it by its default, None.
            configuration.refresh_api_key_hook = self._load_service_account  # type: ignore[assignment]
        return configuration

    def _load_service_account(self, configuration: client.Configuration) -> None:
        loader = InClusterConfigLoader(
            token_filename=str(self._service_account / "token"),
            cert_filename=str(self._service_account / "ca.crt"),
            try_refresh_token=False,
            environ=self._environment,
        )
        try:
            loader.load_and_set(configuration)
        except UnicodeDecodeError:  # it holds what was read
            raise ConfigException("the token or the certificate is no text") from None
        token = configuration.api_key["BearerToken"].strip()
        # aiohttp notices it too, but only after it has connected, and then forgets to close.
        if not (token.isascii() and token.isprintable()):
            raise ConfigException("the token is no single line of text")
        configuration.api_key["BearerToken"] = token

    def _unusable(self, error: Exception) -> str:
        # Not the texts of others about the content of a file: it holds credentials.
        reason = str(error) if isinstance(error, ConfigException | OSError) else "it is malformed"
        if self._kubeconfig:
            return f"the kubeconfig {self._kubeconfig} cannot be used: {reason}"
        return (
            f"this pod's service account cannot be used: {reason} (automountServiceAccountToken "
            f"mounts it at {self._service_account}; outside of a pod, give a kubeconfig)"
        )


def _require_verified_tls(configuration: client.Configuration) -> None:
    # Whoever is in between would get the token, and decide which roots are trusted.
    if not configuration.host.lower().startswith("https://"):
        raise ConfigException("its server is not reached over https")
    if not configuration.verify_ssl:
        raise ConfigException("insecure-skip-tls-verify; name its certificate-authority instead")
