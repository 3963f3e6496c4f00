"""The Data tab: what exactly will be trained?"""
