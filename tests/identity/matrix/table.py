"""Who gets past the gate of which route. Written by hand from governance E1; nothing here is computed from the platform's permissions.

A cell is what the caller of its column meets: `+` the request passes the gate (it answers neither 401, nor 403, nor 404; most are made so that
something later refuses them, and nothing is changed), `1` 401, `3` 403, `4` 404 with the body of a thing that does not exist.

Callers, in the order of the columns:

    ANMXRDO     anonymous, malformed token, unknown token, expired token, revoked token, disabled user, operator's setup key
    vcerakRdi   in project `risk`: viewer, contributor, evaluator, reviewer, validator, risk owner, service owner, deployer, incident commander
    PISA        in the organisation: policy admin, identity admin, system admin, auditor
    pu          service accounts, contributors in `risk`, with a token narrowed to `release:pull`, and to `upload:store`
    onef        outside: every role but in another project; no role; a contributor whose role has ended; every role of another organisation

A route may have several rows: `[…]` names another request to it (asks.py).
"""

CALLERS = (
    "anonymous", "malformed", "unknown", "expired", "revoked", "disabled", "operator",
    "viewer", "contributor", "evaluator", "reviewer", "validator", "risk_owner", "service_owner", "deployer", "incident_commander",
    "policy_admin", "identity_admin", "system_admin", "auditor",
    "puller", "uploader",
    "other_project", "nobody", "ended", "foreign",
)  # fmt: skip

TABLE = """
                                                                      ANMXRDO vcerakRdi PISA pu onef
GET /openapi.json                                                     +++++++ +++++++++ ++++ ++ ++++
HEAD /openapi.json                                                    +++++++ +++++++++ ++++ ++ ++++
GET /static-offline-docs                                              +++++++ +++++++++ ++++ ++ ++++
GET /docs                                                             +++++++ +++++++++ ++++ ++ ++++
GET /docs/oauth2-redirect                                             +++++++ +++++++++ ++++ ++ ++++
GET /redoc                                                            +++++++ +++++++++ ++++ ++ ++++
GET /healthz                                                          +++++++ +++++++++ ++++ ++ ++++
GET /readyz                                                           +++++++ +++++++++ ++++ ++ ++++
GET /auth/provider                                                    +++++++ +++++++++ ++++ ++ ++++
GET /auth/login                                                       +++++++ +++++++++ ++++ ++ ++++
GET /auth/callback                                                    +++++++ +++++++++ ++++ ++ ++++
GET /auth/session                                                     1111111 +++++++++ ++++ ++ ++++
POST /auth/logout                                                     1111111 +++++++++ ++++ ++ ++++
GET /metrics                                                          1111111 111111111 1111 11 1111

                                                                      ANMXRDO vcerakRdi PISA pu onef
POST /api/v1/organizations                                            111111+ 111111111 1111 11 1111
GET /api/v1/whoami                                                    1111111 +++++++++ ++++ ++ ++++
GET /api/v1/roles                                                     1111111 +++++++++ ++++ ++ ++++
GET /api/v1/usage                                                     1111111 +++++++++ ++++ ++ ++++
GET /api/v1/tokens                                                    1111111 +++++++++ ++++ ++ ++++
POST /api/v1/tokens                                                   1111111 +++++++++ ++++ ++ ++++
GET /api/v1/tokens/{token_id}                                         1111111 +44444444 4+4+ 44 4444
GET /api/v1/tokens/{token_id} [own]                                   1111111 +++++++++ ++++ ++ ++++
DELETE /api/v1/tokens/{token_id} [own]                                1111111 +++++++++ ++++ ++ ++++
GET /api/v1/sessions                                                  1111111 +++++++++ ++++ ++ ++++
DELETE /api/v1/sessions/{session_id}                                  1111111 444444444 4444 44 4444
PUT /api/v1/tokens/{token_id}/limits                                  1111111 333333333 3+33 33 3334
POST /api/v1/users                                                    1111111 333333333 3+33 33 333+
GET /api/v1/users                                                     1111111 333333333 3+3+ 33 333+
GET /api/v1/users/{user}                                              1111111 333333333 3+3+ 33 3334
PUT /api/v1/users/{user}/subject                                      1111111 333333333 3+33 33 3334
POST /api/v1/users/{user}/disable                                     1111111 333333333 3+33 33 3334
POST /api/v1/users/{user}/enable                                      1111111 333333333 3+33 33 3334
POST /api/v1/users/{user}/erase                                       1111111 333333333 3+33 33 3334
POST /api/v1/users/{user}/tokens                                      1111111 333333333 3+33 33 3334
POST /api/v1/memberships                                              1111111 333333333 3+33 33 3334
GET /api/v1/memberships                                               1111111 333333333 3+3+ 33 333+
GET /api/v1/memberships/{membership_id}                               1111111 333333333 3+3+ 33 3334
DELETE /api/v1/memberships/{membership_id}                            1111111 333333333 3+33 33 3334
POST /api/v1/projects                                                 1111111 333333333 3+33 33 333+
GET /api/v1/projects                                                  1111111 +++++++++ ++++ +3 +33+

                                                                      ANMXRDO vcerakRdi PISA pu onef
POST /api/v1/uploads                                                  1111111 3++333+33 33+3 3+ +33+
POST /api/v1/uploads/sessions                                         1111111 3++333+33 33+3 3+ +33+
GET /api/v1/uploads/sessions                                          1111111 +++++++++ ++++ +3 +33+
GET /api/v1/uploads/sessions/{session_id}                             1111111 +++++++++ ++++ +3 +33+
GET /api/v1/uploads/sessions/{session_id} [another's]                 1111111 4+4444444 4444 43 4334
PATCH /api/v1/uploads/sessions/{session_id}                           1111111 3++333+33 33+3 3+ +33+
POST /api/v1/uploads/sessions/{session_id}/finish                     1111111 3++333+33 33+3 3+ +33+
DELETE /api/v1/uploads/sessions/{session_id}                          1111111 3++333+33 33+3 3+ +33+
DELETE /api/v1/uploads/sessions/{session_id} [another's]              1111111 3+4333433 3343 34 4334
GET /api/v1/storage/usage                                             1111111 333333333 33+3 33 333+
POST /api/v1/storage/collections                                      1111111 333333333 33+3 33 333+
GET /api/v1/workers                                                   1111111 +++++++++ ++++ +3 +33+
GET /api/v1/workers/{name}                                            1111111 +++++++++ ++++ +3 +334
POST /api/v1/workers/{name}/cordon                                    1111111 333333333 33+3 33 3334
POST /api/v1/workers/{name}/uncordon                                  1111111 333333333 33+3 33 3334
POST /api/v1/workers/{name}/drain                                     1111111 333333333 33+3 33 3334
GET /api/v1/queues/{queue}/demand                                     1111111 333333333 33+3 33 333+

                                                                      ANMXRDO vcerakRdi PISA pu onef
GET /api/v1/jobs                                                      1111111 +++++++++ ++++ +3 +33+
GET /api/v1/jobs/events                                               1111111 +++++++++ ++++ +3 +33+
GET /api/v1/jobs/{job_id}                                             1111111 +++++++++ ++++ +3 4334
GET /api/v1/jobs/{job_id}/events                                      1111111 +++++++++ ++++ +3 4334
GET /api/v1/jobs/{job_id}/logs                                        1111111 +++++++++ ++++ +3 4334
POST /api/v1/jobs/{job_id}/cancel                                     1111111 3++333+33 33+3 33 4334
POST /api/v1/jobs/{job_id}/priority                                   1111111 333333+33 33+3 33 4334
GET /api/v1/projects/{project}/jobs/events                            1111111 +++++++++ ++++ +4 4444
GET /api/v1/bases                                                     1111111 +++++++++ ++++ +3 +33+
POST /api/v1/bases                                                    1111111 333333+33 33+3 33 +33+
GET /api/v1/bases/{base}                                              1111111 +++++++++ ++++ +3 +334
POST /api/v1/bases/{base}/revisions                                   1111111 333333+33 33+3 33 +334
GET /api/v1/bases/{base}/revisions                                    1111111 +++++++++ ++++ +3 +334
GET /api/v1/bases/{base}/revisions/{selector}                         1111111 +++++++++ ++++ +3 +334
GET /api/v1/bases/{base}/revisions/{selector}/compatibility           1111111 +++++++++ ++++ +3 +334
GET /api/v1/bases/{base}/revisions/{selector}/estimate                1111111 +++++++++ ++++ +3 +334
GET /api/v1/tags/{kind}/{object_id}                                   1111111 +++++++++ ++++ +3 4334
PUT /api/v1/tags/{kind}/{object_id}/{key}                             1111111 3++333++3 33+3 33 4334
PUT /api/v1/tags/{kind}/{object_id}/{key} [of a base]                 1111111 333333+33 33+3 33 +334
DELETE /api/v1/tags/{kind}/{object_id}/{key}                          1111111 3++333++3 33+3 33 4334
GET /api/v1/event-types                                               1111111 +++++++++ ++++ +3 +33+
GET /api/v1/audit/events                                              1111111 333333333 333+ 33 333+
GET /api/v1/audit/events/{event_id}/proof                             1111111 333333333 333+ 33 3334
GET /api/v1/audit/consistency                                         1111111 333333333 333+ 33 333+
GET /api/v1/audit/sample                                              1111111 333333333 333+ 33 333+
GET /api/v1/audit/as-of                                               1111111 333333333 333+ 33 333+
GET /api/v1/audit/as-of/approvals                                     1111111 333333333 333+ 33 333+
GET /api/v1/audit/log/checkpoint                                      1111111 333333333 333+ 33 333+
GET /api/v1/audit/log/tile/{path:path}                                1111111 333333333 333+ 33 333+
GET /api/v1/audit/logs                                                1111111 333333333 333+ 33 333+
GET /api/v1/audit/logs/{number}/checkpoint                            1111111 333333333 333+ 33 333+
GET /api/v1/audit/logs/{number}/tile/{path:path}                      1111111 333333333 333+ 33 333+
GET /api/v1/audit/key                                                 1111111 +++++++++ ++++ +3 +33+
GET /api/v1/audit/checkpoint                                          1111111 +++++++++ ++++ +3 +33+
POST /api/v1/audit/export                                             1111111 333333333 333+ 33 333+

                                                                      ANMXRDO vcerakRdi PISA pu onef
GET /api/v1/projects/{project}                                        1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/quotas                                 1111111 +++++++++ ++++ +4 4444
PUT /api/v1/projects/{project}/quotas                                 1111111 333333333 33+3 34 4444
GET /api/v1/projects/{project}/usage                                  1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/datasets                              1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/datasets                               1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/datasets/{dataset}                     1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/datasets/{dataset}/versions           1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/datasets/{dataset}/versions            1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/datasets/{dataset}/versions/{selector} 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/datasets/trace                        1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/dataset-policy                         1111111 +++++++++ ++++ +4 4444
PUT /api/v1/projects/{project}/dataset-policy                         1111111 333333333 +333 34 4444
GET /api/v1/projects/{project}/adapters                               1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/adapters                              1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/versions                               1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/origins                                1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/origins/{origin_id}                    1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/runs                                   1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/evaluations                            1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/searches                              1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/retraining-policy                      1111111 +++++++++ ++++ +4 4444
PUT /api/v1/projects/{project}/retraining-policy                      1111111 333333333 +333 34 4444
GET /api/v1/projects/{project}/retrainings                            1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/searches                               1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/searches/{job_id}                      1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/suites                                1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/suites                                 1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/suites/{suite}                         1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/suites/{suite}/canaries               1111111 3+3333333 3333 34 4444
POST /api/v1/projects/{project}/suites/{suite}/versions               1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/suites/{suite}/versions                1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/suites/{suite}/versions/{selector}     1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/suites/{suite}/versions/{selector}/advice 1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/suites/{suite}/versions/{selector}/items 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/sweeps                                1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/sweeps                                 1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/sweeps/{job_id}                        1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/sweeps/{job_id}/events                 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/sweeps/{job_id}/cancel                1111111 3++333+33 33+3 34 4444
POST /api/v1/projects/{project}/sweeps/{job_id}/children/{measurement_id}/cancel 1111111 3++333+33 33+3 34 4444
GET /api/v1/projects/{project}/measurements                           1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/measurements/imports                  1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/measurements/{measurement_id}          1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/measurements/{measurement_id}/records  1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/gates                                 1111111 3++3+3+33 3333 34 4444
POST /api/v1/projects/{project}/gates/together                        1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/gates                                  1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/gates/{gate_id}                        1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/gates/{gate_id}/report                 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/watches                               1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/watches                                1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/watches/{watch}                        1111111 +++++++++ ++++ +4 4444
PATCH /api/v1/projects/{project}/watches/{watch}                      1111111 3++3+3+33 3333 34 4444
DELETE /api/v1/projects/{project}/watches/{watch}                     1111111 3++3+3+33 3333 34 4444
POST /api/v1/projects/{project}/watches/{watch}/look                  1111111 3++3+3+33 3333 34 4444
GET /api/v1/projects/{project}/watches/{watch}/looks                  1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/approvals                              1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/approvals/{request_id}                 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/approvals/{request_id}/votes          1111111 333++++33 3333 34 4444
POST /api/v1/projects/{project}/approvals/{request_id}/withdraw       1111111 3+3333333 3333 34 4444
GET /api/v1/projects/{project}/policies/{environment}                 1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/policies                              1111111 333333333 +333 34 4444
GET /api/v1/projects/{project}/channels                               1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/channels                              1111111 3333333+3 3333 34 4444
GET /api/v1/projects/{project}/channels/{channel}                     1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/releases                               1111111 +++++++++ ++++ +4 4444

                                                                      ANMXRDO vcerakRdi PISA pu onef
GET /api/v1/projects/{project}/events                                 1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/events/{event_id}                      1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/subscriptions                          1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/subscriptions                         1111111 333333++3 33+3 34 4444
GET /api/v1/projects/{project}/subscriptions/{subscription}           1111111 +++++++++ ++++ +4 4444
PATCH /api/v1/projects/{project}/subscriptions/{subscription}         1111111 333333++3 33+3 34 4444
DELETE /api/v1/projects/{project}/subscriptions/{subscription}        1111111 333333++3 33+3 34 4444
POST /api/v1/projects/{project}/subscriptions/{subscription}/enable   1111111 333333++3 33+3 34 4444
POST /api/v1/projects/{project}/subscriptions/{subscription}/disable  1111111 333333++3 33+3 34 4444
POST /api/v1/projects/{project}/subscriptions/{subscription}/secret   1111111 333333++3 33+3 34 4444
POST /api/v1/projects/{project}/subscriptions/{subscription}/test     1111111 333333++3 33+3 34 4444
POST /api/v1/projects/{project}/subscriptions/{subscription}/replay   1111111 333333++3 33+3 34 4444
GET /api/v1/projects/{project}/subscriptions/{subscription}/deliveries 1111111 +++++++++ ++++ +4 4444
GET /api/v1/projects/{project}/deliveries/{delivery_id}               1111111 +++++++++ ++++ +4 4444
POST /api/v1/projects/{project}/deliveries/{delivery_id}/replay       1111111 333333++3 33+3 34 4444

                    of /api/v1/projects/{project}                     ANMXRDO vcerakRdi PISA pu onef
GET …/adapters/{adapter}                                              1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/trail                                        1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/versions                                     1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/versions                                    1111111 3+3333333 3333 34 4444
GET …/adapters/{adapter}/versions/{selector}                          1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/versions/{selector}/manifest                 1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/versions/{selector}/standing                 1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/versions/{selector}/compatibility            1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/versions/{selector}/deprecate               1111111 3+3333++3 3333 34 4444
POST …/adapters/{adapter}/versions/{selector}/retire                  1111111 3+3333++3 3333 34 4444
POST …/adapters/{adapter}/versions/{selector}/revoke                  1111111 33333+33+ 3333 34 4444
GET …/adapters/{adapter}/versions/{selector}/origins                  1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/versions/{selector}/origins                 1111111 3+3333333 3333 34 4444
POST …/adapters/{adapter}/versions/{selector}/approvals               1111111 3+3333333 3333 34 4444
GET …/adapters/{adapter}/versions/{selector}/evaluations              1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/versions/{selector}/evaluations             1111111 3++3+3+33 3333 34 4444
GET …/adapters/{adapter}/versions/{selector}/evaluations/{evaluation_id} 1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/versions/{selector}/evaluations/{evaluation_id}/records 1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/runs                                         1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/runs                                        1111111 3+3333333 3333 34 4444
POST …/adapters/{adapter}/runs/check                                  1111111 3+3333333 3333 34 4444
GET …/adapters/{adapter}/runs/{run_id}                                1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/runs/{run_id}/events                         1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/runs/{run_id}/provenance                     1111111 +++++++++ ++++ +4 4444
GET …/adapters/{adapter}/runs/{run_id}/curve                          1111111 +++++++++ ++++ +4 4444
POST …/adapters/{adapter}/runs/{run_id}/pause                         1111111 3+3333333 3333 34 4444
POST …/adapters/{adapter}/runs/{run_id}/continue                      1111111 3+3333333 3333 34 4444
POST …/adapters/{adapter}/runs/{run_id}/again                         1111111 3+3333333 3333 34 4444
POST …/adapters/{adapter}/runs/{run_id}/branch                        1111111 3+3333333 3333 34 4444
GET …/channels/{channel}/adapters/{adapter}/releases                  1111111 +++++++++ ++++ +4 4444
POST …/channels/{channel}/adapters/{adapter}/releases                 1111111 3333333+3 3333 34 4444
POST …/channels/{channel}/adapters/{adapter}/rollback                 1111111 3333333+3 3333 34 4444

                                                                      ANMXRDO vcerakRdi PISA pu onef
GET /hf/{channel}/api/agent-harnesses                                 +++++++ +++++++++ ++++ ++ ++++
GET /hf/{channel}/api/whoami-v2                                       1111111 +++++++++ ++++ ++ ++++
GET /hf/{channel}/api/models/{namespace}/{name}                       1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name} [of a base]           1111111 +++++++++ ++++ +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/revision/{rest:path}  1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/tree/{rest:path}      1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/refs                  1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/commits/{rest:path}   1111111 +++++++++ 4444 +4 4444
POST /hf/{channel}/api/models/{namespace}/{name}/paths-info/{rest:path} 1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/auth-check            1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/api/models/{namespace}/{name}/auth-check/write      1111111 333333333 4444 34 4444
GET /hf/{channel}/{namespace}/{name}/resolve/{rest:path}              1111111 +++++++++ 4444 +4 4444
HEAD /hf/{channel}/{namespace}/{name}/resolve/{rest:path}             1111111 +++++++++ 4444 +4 4444
GET /hf/{channel}/{anything:path}                                     4444444 444444444 4444 44 4444
HEAD /hf/{channel}/{anything:path}                                    4444444 444444444 4444 44 4444
POST /hf/{channel}/{anything:path}                                    4444444 444444444 4444 44 4444
PUT /hf/{channel}/{anything:path}                                     4444444 444444444 4444 44 4444
PATCH /hf/{channel}/{anything:path}                                   4444444 444444444 4444 44 4444
DELETE /hf/{channel}/{anything:path}                                  4444444 444444444 4444 44 4444
"""
