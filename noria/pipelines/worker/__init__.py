"""The pipeline worker: claims steps over HTTP, runs each in a process of its own, sends back output and result.

    python -m noria.pipelines.worker [--url URL] [--home FOLDER] [--slots N] [--name NAME]

It keeps nothing that matters: when it dies, its steps die with it and are given to another worker. It waits for a control
plane that restarts, and ends when its parent does. It speaks HTTP only and knows nothing of the server's database.
"""
