"""The usual places of secrets and certificates; where there may be others, nobody claims to have looked.

A place is a file, or a folder whose files count one by one. `needle`: the file counts only with these bytes
in it (a docker client without a login keeps the same file).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """A file that holds a secret of a kind when it is there and not empty."""

    path: bytes
    kind: str
    needle: bytes = b""


IN_HOMES = (
    SecretPlace(b".aws/credentials", "AWS access key"),
    SecretPlace(b".azure/msal_token_cache.json", "Azure token"),
    SecretPlace(b".config/gcloud/access_tokens.db", "Google Cloud token"),
    SecretPlace(b".config/gcloud/application_default_credentials.json", "Google Cloud key"),
    SecretPlace(b".config/gcloud/credentials.db", "Google Cloud token"),
    SecretPlace(b".docker/config.json", "registry login", b'"auth"'),
    SecretPlace(b".git-credentials", "Git login"),
    SecretPlace(b".kube/config", "Kubernetes login"),
    SecretPlace(b".my.cnf", "database password", b"password"),
    SecretPlace(b".netrc", "network logins"),
    SecretPlace(b".npmrc", "npm token", b"_auth"),
    SecretPlace(b".pgpass", "database password"),
    SecretPlace(b".pypirc", "package index login", b"password"),
    SecretPlace(b".vault-token", "Vault token"),
)

IN_SYSTEM = (
    SecretPlace(b"/etc/krb5.keytab", "Kerberos key"),
    SecretPlace(b"/etc/kubernetes/admin.conf", "Kubernetes login"),
    SecretPlace(b"/var/lib/rancher/k3s/server/token", "Kubernetes token"),
)

FOLDERS = (
    SecretPlace(b"/etc/NetworkManager/system-connections", "network password", b"psk="),
    SecretPlace(b"/etc/NetworkManager/system-connections", "network password", b"password="),
    SecretPlace(b"/etc/ssl/private", "private key"),
    SecretPlace(b"/etc/wireguard", "WireGuard key", b"PrivateKey"),
    SecretPlace(b"/etc/wpa_supplicant", "network password", b"psk="),
)

GNUPG_KEYS = SecretPlace(b".gnupg/private-keys-v1.d", "OpenPGP private key")

CERTIFICATE_FOLDERS = (
    b"/etc/apache2",
    b"/etc/dovecot",
    b"/etc/haproxy",
    b"/etc/httpd",
    b"/etc/kubernetes/pki",
    b"/etc/ldap",
    b"/etc/letsencrypt",
    b"/etc/libvirt",
    b"/etc/mysql",
    b"/etc/nginx",
    b"/etc/openvpn",
    b"/etc/pki",
    b"/etc/postfix",
    b"/etc/ssl",
    b"/usr/local/share/ca-certificates",
)
"""Searched for PEM files, certificates and private keys alike; links are not followed, so that what
ca-certificates links into /etc/ssl/certs is left out."""

AUTHORITY_BUNDLES = (
    b"/etc/ssl/certs/ca-certificates.crt",
    b"/etc/ssl/certs/java/",
    b"/etc/pki/ca-trust/",
    b"/etc/pki/java/",
    b"/etc/pki/tls/certs/ca-bundle",
)
"""Beginnings of paths that the distribution's own bundle of authorities takes up."""
