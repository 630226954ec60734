"""Speech to train and to evaluate on that anyone can make again, from Debian and npm packages. Nothing is installed."""
