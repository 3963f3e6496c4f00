"""The Plan tab: will it train on my card?"""
