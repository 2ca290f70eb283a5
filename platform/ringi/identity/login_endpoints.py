"""HTTP for logging in: what a client must know of the identity provider."""

from fastapi import APIRouter

from ringi.identity.schemas import LoginOptions
from ringi.settings import get_settings

router = APIRouter(prefix="/auth", tags=["login"])
PUBLIC_PATHS = ("/auth/provider",)


@router.get("/provider")
def login_options() -> LoginOptions:
    """How people log in at this platform; `ringi login` asks it first."""
    settings = get_settings()
    return LoginOptions(
        issuer=settings.oidc_issuer, cli_client_id=settings.oidc_cli_client_id, scopes=settings.oidc_scopes, audience=settings.oidc_audience,
        audience_parameter=settings.oidc_audience_parameter, step_up_acr=settings.step_up_acr, step_up_max_age_s=settings.step_up_max_age_s,
    )  # fmt: skip
