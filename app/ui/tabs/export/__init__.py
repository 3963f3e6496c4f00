"""The Export tab: how do I use it elsewhere?"""
