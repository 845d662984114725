"""What all tests need, however they are started."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has its jobs in the background ignore Ctrl-C, and so would whatever tests start: some
    # of that is interrupted on purpose.
    signal.signal(signal.SIGINT, signal.default_int_handler)
