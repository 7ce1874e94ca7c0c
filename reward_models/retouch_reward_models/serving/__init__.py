"""Rewards as services: a pool of Ray actors (`pool`), and an HTTP server with its client (`server`, `client`).

Ray is imported by `pool` alone, and Starlette and uvicorn by `server` and `command`, so import what is wanted from
its own module.
"""
