"""The training run, on Lightning; nothing else imports that library."""
