"""The Train tab: what runs, how is it going, when is it done?"""
