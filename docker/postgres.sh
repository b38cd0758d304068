#!/bin/sh
# Roles and databases, when the database volume is new; PostgreSQL's image runs it as its owner.
set -eu

secret() { head -n 1 "${SECRETS_FOLDER:-/run/secrets}/$1"; }

# the passwords reach psql on its standard input: a command line is there for everybody to read
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" \
  --dbname postgres <<SQL
\set prefect_password '$(secret prefect_database | sed "s/[\\\\']/\\\\&/g")'
\set mlflow_password '$(secret mlflow_database | sed "s/[\\\\']/\\\\&/g")'
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_users OWNER mlflow;
REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_users FROM PUBLIC;
SQL
