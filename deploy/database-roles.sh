#!/bin/bash
# Runs once, when the database volume is empty: the same roles and rights that the embedded PostgreSQL gets (ringi/embedded/postgres.py).
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set owner_password="$RINGI_OWNER_PASSWORD" --set app_password="$RINGI_APP_PASSWORD" --set platform_password="$RINGI_PLATFORM_PASSWORD" --set mlflow_password="$RINGI_MLFLOW_PASSWORD" <<'SQL'
CREATE ROLE ringi_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE ringi_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'app_password';
CREATE ROLE ringi_platform LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'platform_password';
GRANT ringi_app TO ringi_platform;
CREATE ROLE ringi_mlflow LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'mlflow_password';
CREATE DATABASE ringi OWNER ringi_owner TEMPLATE template0;
CREATE DATABASE mlflow OWNER ringi_mlflow TEMPLATE template0;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE ringi FROM PUBLIC;
REVOKE ALL ON DATABASE mlflow FROM PUBLIC;
GRANT CONNECT ON DATABASE ringi TO ringi_app;
\connect ringi
ALTER DEFAULT PRIVILEGES FOR ROLE ringi_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ringi_app;
ALTER DEFAULT PRIVILEGES FOR ROLE ringi_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO ringi_app;
SQL
