"""The room that knows the other three: settings, Celery, the pipeline, intake, delivery, recovery, web and CLI."""

__version__ = "0.1.0"
APPLICATION = f"cxr-triage {__version__}"
